//! Server-sent events out of bytes in any slicing: hands on the data of each event.

/// The most bytes that are kept of an event that is not complete; a longer one is skipped.
const LARGEST: usize = 1 << 20;

/// What of a stream has come and is not complete yet.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The line that has begun.
    line: Vec<u8>,
    /// The data of the event that has begun, its lines joined.
    data: Vec<u8>,
    has_data: bool,
    /// The event is longer than what is kept.
    overlong: bool,
    /// The last byte was a carriage return: a line feed right after it ends no further line.
    after_return: bool,
}

impl Frames {
    /// Calls `event` with the data of each event that these bytes complete.
    pub(super) fn feed(&mut self, bytes: &[u8], mut event: impl FnMut(&[u8])) {
        let mut rest = bytes;
        if std::mem::take(&mut self.after_return) && rest.first() == Some(&b'\n') {
            rest = &rest[1..];
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let returned = rest[end] == b'\r';
            let line = &rest[..end];
            rest = &rest[end + 1..];
            if returned {
                match rest.first() {
                    Some(b'\n') => rest = &rest[1..],
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
            self.end_line(line, &mut event);
        }
        self.keep(rest);
    }

    fn keep(&mut self, part: &[u8]) {
        if self.line.len() + self.data.len() + part.len() > LARGEST {
            self.overlong = true;
            (self.line, self.data) = (Vec::new(), Vec::new());
            // Something, so that the line is not taken for the empty one that ends an event.
            self.line.push(b':');
        } else {
            self.line.extend_from_slice(part);
        }
    }

    fn end_line(&mut self, end: &[u8], event: &mut impl FnMut(&[u8])) {
        let mut line = std::mem::take(&mut self.line);
        match line.is_empty() {
            true => self.take_line(end, event),
            false => {
                if line.len() + end.len() <= LARGEST {
                    line.extend_from_slice(end);
                } else {
                    self.overlong = true;
                }
                self.take_line(&line, event);
                line.clear();
                // Its memory serves the next line.
                self.line = line;
            }
        }
    }

    fn take_line(&mut self, line: &[u8], event: &mut impl FnMut(&[u8])) {
        if line.is_empty() {
            if self.has_data && !self.overlong {
                event(&self.data);
            }
            self.data.clear();
            (self.has_data, self.overlong) = (false, false);
            return;
        }
        let Some(value) = line.strip_prefix(b"data:") else { return };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        if self.data.len() + value.len() > LARGEST {
            self.overlong = true;
            self.data = Vec::new();
        }
        if self.overlong {
            return;
        }
        if self.has_data {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        self.has_data = true;
    }
}
