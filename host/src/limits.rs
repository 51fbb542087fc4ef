//! How much a key may use at a time, in a window and in total.
