//! How batches of events stand in a file: length and checksum (4 bytes each, little-endian), then JSON.

use serde::Serialize;

use crate::store::UsageEvent;

/// Bytes before the JSON.
pub(crate) const HEAD: usize = 8;
/// The most bytes of JSON in a frame: more is no frame, but damage.
pub(super) const MOST: usize = 16 << 20;

/// One batch as a frame; none when it is too large for one.
pub(super) fn encode(events: &[UsageEvent]) -> Option<Vec<u8>> {
    wrap(events)
}

/// Anything as the JSON of a frame; none when it is too large for one.
pub(crate) fn wrap(value: &(impl Serialize + ?Sized)) -> Option<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, value).ok()?;
    let json = &frame[HEAD..];
    if json.len() > MOST {
        return None;
    }
    let (length, sum) = ((json.len() as u32).to_le_bytes(), crc32fast::hash(json).to_le_bytes());
    frame[..4].copy_from_slice(&length);
    frame[4..HEAD].copy_from_slice(&sum);
    Some(frame)
}

/// What is in a file.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Frames {
    pub(super) events: Vec<UsageEvent>,
    /// Where the last whole frame ends; what follows it is torn.
    pub(super) whole: usize,
    /// Bytes between whole frames that are none: damage.
    pub(super) damaged: usize,
    /// Whole frames that this program cannot read: another version's.
    pub(super) foreign: usize,
}

impl Frames {
    /// Whether this program has read all that was ever acknowledged.
    pub(super) fn is_readable(&self) -> bool {
        self.foreign == 0 && self.damaged == 0
    }
}

/// Reads every whole frame, those behind a damaged one too.
pub(super) fn decode(bytes: &[u8]) -> Frames {
    let mut frames = Frames::default();
    while let Some((gap, json)) = find(&bytes[frames.whole..]) {
        frames.damaged += gap;
        frames.whole += gap + HEAD + json.len();
        match serde_json::from_slice::<Vec<UsageEvent>>(json) {
            Ok(events) => frames.events.extend(events),
            Err(_) => frames.foreign += 1,
        }
    }
    frames
}

/// The first whole frame, and how many bytes stand before it.
fn find(bytes: &[u8]) -> Option<(usize, &[u8])> {
    if let Some(json) = next(bytes) {
        return Some((0, json));
    }
    // A batch is a JSON list: few other places have to be summed up.
    let begins = |at: &usize| bytes.get(at + HEAD) == Some(&b'[');
    let list = |at: usize| Some((at, next(&bytes[at..]).filter(|json| json.ends_with(b"]"))?));
    (1..bytes.len()).filter(begins).find_map(list)
}

/// The JSON of the first frame. No frame is empty, so that zeros are none.
pub(crate) fn next(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    let json = rest.get(..length).filter(|_| (1..=MOST).contains(&length))?;
    (crc32fast::hash(json) == u32::from_le_bytes(*sum)).then_some(json)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event(id: &str) -> UsageEvent {
        let event =
            serde_json::json!({ "id": id, "key_id": "k", "model": "m", "at": "2026-01-01T00:00:00Z" });
        serde_json::from_value(event).unwrap()
    }

    fn ids(frames: &Frames) -> Vec<&str> {
        frames.events.iter().map(|event| event.id.as_str()).collect()
    }

    proptest! {
        /// Cut anywhere and followed by anything, a file gives back a prefix of its batches, and every batch
        /// that was whole before the cut.
        #[test]
        fn a_torn_file_gives_back_every_whole_batch(
            batches in prop::collection::vec(prop::collection::vec("[a-z\u{e9}\"\\\\]{1,20}", 1..5), 0..8),
            cut in any::<prop::sample::Index>(),
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut file = Vec::new();
            let mut ends = vec![0];
            for batch in &batches {
                let events: Vec<_> = batch.iter().map(|id| event(id)).collect();
                file.extend(encode(&events).unwrap());
                ends.push(file.len());
            }
            let all: Vec<_> = batches.iter().flatten().map(String::as_str).collect();
            let frames = decode(&file);
            prop_assert_eq!(ids(&frames), all.clone());
            prop_assert_eq!((frames.whole, frames.damaged, frames.foreign), (file.len(), 0, 0));

            let cut = cut.index(file.len() + 1);
            let whole = ends.iter().filter(|end| **end <= cut).count() - 1;
            file.truncate(cut);
            file.extend(tail);
            let frames = decode(&file);
            let kept = ids(&frames);
            prop_assert!(kept.len() >= batches[..whole].iter().flatten().count());
            prop_assert!(all.starts_with(&kept[..kept.len().min(all.len())]));
        }

        /// No damage of a single byte makes another event of one.
        #[test]
        fn a_changed_byte_is_noticed(at in any::<prop::sample::Index>(), by in 1_u8..) {
            let mut file = encode(&[event("a"), event("b")]).unwrap();
            let at = at.index(file.len());
            file[at] ^= by;
            prop_assert_eq!(decode(&file), Frames::default());
        }
    }

    /// Whichever byte is damaged, only its own batch is lost.
    #[test]
    fn a_damaged_batch_hides_none_behind_it() {
        let (first, rest) = (encode(&[event("a")]).unwrap(), encode(&[event("b"), event("c")]).unwrap());
        for at in 0..first.len() {
            let mut file = [first.clone(), rest.clone()].concat();
            file[at] ^= 0x11;
            let frames = decode(&file);
            assert_eq!(ids(&frames), ["b", "c"], "byte {at}");
            assert_eq!((frames.damaged, frames.whole), (first.len(), file.len()));
        }
    }

    #[test]
    fn zeros_are_no_batches() {
        assert_eq!(decode(&[0; 4_096]), Frames::default());
    }
}
