//! It lives and ends with this process: there is nothing to tell it by.

use async_trait::async_trait;

use super::super::identity::Lineage;
use super::Memory;

#[async_trait]
impl Lineage for Memory {}
