//! What there is in a database of Claude Relay Service. Reads only.

mod bound;
mod record;
mod sorts;

use std::collections::HashSet;

use redis::Value;

use self::bound::Bound;
use self::record::Findings;
use self::sorts::{Fate, SORTS, sort_of};
use super::direct::Direct;
use super::layout;
use crate::store::kind::{ACCOUNT, ACCOUNT_GROUP, API_KEY};
use crate::store::takeover::{Counted, Credentials, Survey};
use crate::store::{Fields, Key, Kind, Result, StoreError};

/// How many records are read in one step.
const RECORDS: usize = 200;
/// How many steps at most: a hundred million keys.
const MAX_STEPS: usize = 100_000;

/// A survey under way.
struct Looking<'a> {
    direct: &'a Direct,
    credentials: &'a dyn Credentials,
    keys: Vec<u64>,
    survey: Survey,
    findings: Findings,
    accounts: HashSet<String>,
    bound: Bound,
    /// Keys that can be recognised with that program's `ENCRYPTION_KEY` alone.
    theirs: u64,
    /// Whether the key that is given has opened anything.
    is_proven: bool,
}

impl Direct {
    pub(super) async fn look(&self, credentials: &dyn Credentials) -> Result<Survey> {
        let keys = vec![0; SORTS.len()];
        let (survey, findings) = Default::default();
        let mut looking = Looking {
            direct: self,
            credentials,
            keys,
            survey,
            findings,
            accounts: HashSet::new(),
            bound: Bound::default(),
            theirs: 0,
            is_proven: false,
        };
        let mut cursor = String::from("0");
        for _ in 0..MAX_STEPS {
            let (next, names) = self.keys(&cursor, "*").await?;
            looking.step(names).await?;
            match next {
                Some(next) => cursor = next,
                None => return looking.end().await,
            }
        }
        Err(StoreError::Other("too many keys to look through".into()))
    }
}

impl Looking<'_> {
    async fn step(&mut self, names: Vec<Vec<u8>>) -> Result<()> {
        let (mut api_keys, mut accounts, mut groups) = (Vec::new(), Vec::new(), Vec::new());
        for name in names {
            let Ok(name) = String::from_utf8(name) else {
                self.keys[SORTS.len() - 1] += 1;
                continue;
            };
            let sort = sort_of(&name);
            self.keys[sort] += 1;
            match SORTS[sort].fate {
                Fate::ApiKey => api_keys.push(name),
                Fate::Account => accounts.push(name),
                Fate::Group => groups.push(name),
                Fate::Taken | Fate::Left => {}
            }
        }
        for names in api_keys.chunks(RECORDS) {
            for (name, fields) in self.read(&API_KEY, names).await? {
                self.api_key(&name, &fields);
            }
            self.indexed().await?;
        }
        for names in accounts.chunks(RECORDS) {
            for (name, fields) in self.read(&ACCOUNT, names).await? {
                self.account(&name, &fields).await;
            }
        }
        for names in groups.chunks(RECORDS) {
            for (name, fields) in self.read(&ACCOUNT_GROUP, names).await? {
                self.group(&name, &fields).await?;
            }
        }
        Ok(())
    }

    /// The records among these keys; the others are noted.
    async fn read(&mut self, kind: &'static Kind, names: &[String]) -> Result<Vec<(String, Fields)>> {
        let mut pipe = redis::pipe();
        for name in names {
            pipe.cmd("HGETALL").arg(name);
        }
        let answers = self.direct.ask_all(pipe).await?;
        let mut records = Vec::with_capacity(names.len());
        for (name, answer) in names.iter().zip(answers) {
            let id = name.strip_prefix(kind.redis_prefix).unwrap_or(name);
            let fields = match Key::new(kind, id) {
                Err(error) => Err(error.to_string()),
                Ok(key) => match answer {
                    Value::ServerError(_) => Err("a record is a hash; this is something else".into()),
                    hash => match layout::decode(&key, hash) {
                        Ok(Some(record)) => {
                            self.survey.api_keys.ours +=
                                u64::from(layout::is_ours(&record) && *kind == API_KEY);
                            Ok(record.fields)
                        }
                        // It has expired meanwhile.
                        Ok(None) => continue,
                        Err(_) => Err("a field is not UTF-8".into()),
                    },
                },
            };
            match fields {
                Ok(fields) => records.push((name.clone(), fields)),
                Err(reason) => self.findings.note(name, reason),
            }
        }
        Ok(records)
    }

    /// Whether clients' keys lead to the records that were read last: by the index, or else by what an old version of
    /// that program has in its place.
    async fn indexed(&mut self) -> Result<()> {
        let hashes = std::mem::take(&mut self.findings.hashes);
        let Some(index) = &API_KEY.index else { return Ok(()) };
        let mut pipe = redis::pipe();
        for (_, hash) in &hashes {
            pipe.cmd("HGET").arg(index.redis_key).arg(hash);
            pipe.cmd("HGET").arg(format!("{}{hash}", layout::old_index(&API_KEY))).arg("id");
        }
        if hashes.is_empty() {
            return Ok(());
        }
        let answers = self.direct.ask_all(pipe).await?;
        for ((name, _), answers) in hashes.iter().zip(answers.chunks(2)) {
            let id = name.strip_prefix(API_KEY.redis_prefix).unwrap_or(name);
            let led = answers.iter().find_map(|answer| match answer {
                Value::BulkString(found) => Some(found),
                _ => None,
            });
            match led {
                Some(found) if found == id.as_bytes() => {}
                Some(_) => self.findings.note(name, "its hash leads to another key"),
                None => self
                    .findings
                    .note(name, "its hash is in no index, where Switchyard enters it when it starts"),
            }
        }
        Ok(())
    }

    /// Entries of the index that lead to nothing. The hashes stay unnamed.
    async fn dangling(&mut self) -> Result<()> {
        let Some(index) = &API_KEY.index else { return Ok(()) };
        let mut cursor = String::from("0");
        for _ in 0..MAX_STEPS {
            let mut scan = redis::cmd("HSCAN");
            scan.arg(index.redis_key).arg(&cursor).arg("COUNT").arg(RECORDS);
            let Ok(answer) = self.direct.ask(&scan).await else {
                self.findings.note(index.redis_key, "the index is a hash; this is something else");
                return Ok(());
            };
            let [next, entries] = layout::array(answer)?;
            let entries = layout::list(entries)?;
            let ids: Vec<_> =
                entries.into_iter().skip(1).step_by(2).filter_map(|id| layout::text(id).ok()).collect();
            let mut pipe = redis::pipe();
            for id in &ids {
                pipe.cmd("EXISTS").arg(format!("{}{id}", API_KEY.redis_prefix));
            }
            if !ids.is_empty() {
                for (id, answer) in ids.iter().zip(self.direct.ask_all(pipe).await?) {
                    if layout::integer(&answer) == Some(0) {
                        let reason = format!("an entry leads to {id:?}, which is no key");
                        self.findings.note(index.redis_key, reason);
                    }
                }
            }
            cursor = layout::text(next)?;
            if cursor == "0" {
                break;
            }
        }
        Ok(())
    }

    async fn end(mut self) -> Result<Survey> {
        self.dangling().await?;
        self.bindings();
        self.recognition();
        let Self { mut survey, findings, keys, .. } = self;
        for (sort, keys) in SORTS.iter().zip(keys).filter(|(_, keys)| *keys > 0) {
            let list = match sort.fate {
                Fate::Left => &mut survey.not_taken_over,
                _ => &mut survey.taken_over,
            };
            list.push(Counted { what: sort.what, keys, why: sort.why });
        }
        (survey.broken, survey.findings) = (findings.all, findings.listed);
        Ok(survey)
    }
}
