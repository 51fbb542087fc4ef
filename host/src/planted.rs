//! Faults that are planted in this program to see that the torture bench notices them. Without the feature
//! `planted` there are none, and these functions cost nothing.

#[cfg(all(feature = "planted", not(debug_assertions)))]
compile_error!("planted faults are not for releases");

/// Whether this fault is planted: the one that `SWITCHYARD_PLANTED` names.
#[cfg(feature = "planted")]
pub(crate) fn is(name: &str) -> bool {
    use std::sync::LazyLock;
    static PLANTED: LazyLock<Option<std::ffi::OsString>> =
        LazyLock::new(|| std::env::var_os("SWITCHYARD_PLANTED"));
    PLANTED.as_ref().is_some_and(|planted| planted == name)
}

#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_: &str) -> bool {
    false
}

/// A late answer, kept for the next question.
#[cfg(feature = "planted")]
pub(crate) mod late {
    use std::any::Any;

    use parking_lot::Mutex;

    static ANSWER: Mutex<Option<Box<dyn Any + Send>>> = Mutex::new(None);

    pub(crate) fn keep(answer: impl Any + Send) {
        *ANSWER.lock() = Some(Box::new(answer));
    }

    pub(crate) fn take<T: Any>() -> Option<T> {
        ANSWER.lock().take()?.downcast().ok().map(|answer| *answer)
    }
}
