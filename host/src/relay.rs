//! A client's request on its way upstream and back.
