//! Rows handed over one by one: what a source that isn't line-based needs of [`BlockSink`].

use std::fmt;

use super::block::trim;
use super::{BlockSink, Cursor, RowOutcome, Rows};
use crate::error::{Error, ErrorKind, Result};

/// Room that is asked for at once, in bytes; the engine gives more where its blocks are larger.
const BUFFER_BYTES: usize = 64 << 10;

/// Writes rows into a sink: buffers, cursors and rows over the line limit are taken care of.
///
/// A position is what the source finds a row again by, such as its key: a read from the cursor of a position begins
/// with the row after it. Positions and bodies are copied, and nothing is allocated per row.
///
/// # Example
/// ```
/// use fhir_export::source::{BlockSink, Cursor, RowWriter};
///
/// async fn read(from: &Cursor, sink: &mut dyn BlockSink) -> fhir_export::Result<()> {
///     let table = [("a", r#"{"resourceType":"Patient","id":"a"}"#), ("b", r#"{"resourceType":"Patient","id":"b"}"#)];
///     let mut rows = RowWriter::new(sink, from);
///     for (id, body) in table.iter().filter(|(id, _)| id.as_bytes() > from.as_bytes()) {
///         rows.push(id.as_bytes(), body.as_bytes()).await?;
///     }
///     rows.finish().await
/// }
/// ```
#[must_use = "rows that were pushed are handed over by finish()"]
pub struct RowWriter<'s> {
    sink: &'s mut dyn BlockSink,
    rows: Option<Rows>,
    /// Position of the last row that was pushed.
    position: Vec<u8>,
}

impl<'s> RowWriter<'s> {
    /// Begins behind a cursor: the one that the read was given.
    pub fn new(sink: &'s mut dyn BlockSink, from: &Cursor) -> Self {
        sink.at(from.clone());
        Self { sink, rows: None, position: from.as_bytes().to_vec() }
    }

    /// Writes the body of the resource at a position, as [`Rows::push`] takes it.
    ///
    /// A body that is over the line limit goes to quarantine.
    ///
    /// # Errors
    /// When the job is over: hand the error on.
    ///
    /// # Cancellation
    /// A dropped push ends the range: what was pushed may or may not be handed over.
    pub async fn push(&mut self, position: &[u8], body: &[u8]) -> Result<()> {
        self.write(position, body, Rows::push).await
    }

    /// Writes the body of a resource that the source keeps but marks as deleted: it is counted, not exported.
    ///
    /// # Errors
    /// When the job is over: hand the error on.
    ///
    /// # Cancellation
    /// As of [`push`](Self::push).
    pub async fn push_deleted(&mut self, position: &[u8], body: &[u8]) -> Result<()> {
        self.write(position, body, Rows::push_deleted).await
    }

    /// Tells of a body that is over the line limit and that the source hasn't fetched: it goes to quarantine.
    ///
    /// # Errors
    /// When the job is over: hand the error on.
    ///
    /// # Cancellation
    /// As of [`push`](Self::push).
    pub async fn push_too_long(&mut self, position: &[u8], length_bytes: u64) -> Result<()> {
        self.pass_over(position, length_bytes).await
    }

    /// Hands over what is left. Without it the last rows are lost.
    ///
    /// # Errors
    /// When the job is over: hand the error on.
    ///
    /// # Cancellation
    /// As of [`push`](Self::push).
    pub async fn finish(mut self) -> Result<()> {
        self.hand_over().await
    }

    async fn write(
        &mut self,
        position: &[u8],
        body: &[u8],
        push: impl Fn(&mut Rows, &[u8]) -> RowOutcome,
    ) -> Result<()> {
        let body = trim(body);
        if body.len() > self.sink.line_limit_bytes() {
            return self.pass_over(position, body.len() as u64).await;
        }
        let outcome = self.rows.as_mut().map_or(RowOutcome::Full, |rows| push(rows, body));
        if outcome == RowOutcome::Full {
            self.hand_over().await?;
            let room_bytes = BUFFER_BYTES.max(body.len() + 1);
            let mut rows = Rows::new(self.sink.buffer(room_bytes).await?);
            if push(&mut rows, body) == RowOutcome::Full {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "the sink gave a buffer with less room than was asked for",
                ));
            }
            self.rows = Some(rows);
        }
        if let Some(rows) = &mut self.rows {
            rows.at(position);
        }
        self.advance(position);
        Ok(())
    }

    async fn pass_over(&mut self, position: &[u8], length_bytes: u64) -> Result<()> {
        self.hand_over().await?;
        self.sink.row_too_long(length_bytes).await?;
        self.advance(position);
        self.sink.at(Cursor::new(&self.position));
        Ok(())
    }

    async fn hand_over(&mut self) -> Result<()> {
        if let Some(rows) = self.rows.take() {
            self.sink.rows(rows).await?;
            self.sink.at(Cursor::new(&self.position));
        }
        Ok(())
    }

    fn advance(&mut self, position: &[u8]) {
        self.position.clear();
        self.position.extend_from_slice(position);
    }
}

impl fmt::Debug for RowWriter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowWriter").field("position", &Cursor::new(&self.position)).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use async_trait::async_trait;

    use super::*;
    use crate::fhir::Instant;
    use crate::source::{AfterTransactionTime, Asked, Plan, Range, Snapshot, Source, contract};

    /// A table of keys, each with a body and whether it is deleted.
    #[derive(Clone, Debug, Default)]
    struct Table(BTreeMap<String, (Vec<u8>, bool)>);

    #[async_trait]
    impl Source for Table {
        fn name(&self) -> String {
            "table".to_owned()
        }

        async fn open(&self) -> Result<Box<dyn Snapshot>> {
            Ok(Box::new(self.clone()))
        }
    }

    #[async_trait]
    impl Snapshot for Table {
        fn transaction_time(&self) -> Instant {
            Instant::from_unix(0, 0)
        }

        fn after_transaction_time(&self) -> AfterTransactionTime {
            AfterTransactionTime::Excluded
        }

        async fn plan(&self, _asked: &Asked) -> Result<Plan> {
            let range = Range::new("all");
            Ok(Plan { ranges: vec![range], ..Plan::default() })
        }

        async fn read(&self, _range: &Range, from: &Cursor, sink: &mut dyn BlockSink) -> Result<()> {
            let mut rows = RowWriter::new(sink, from);
            for (key, (body, deleted)) in self.0.iter().filter(|(key, _)| key.as_bytes() > from.as_bytes()) {
                if *deleted {
                    rows.push_deleted(key.as_bytes(), body).await?;
                } else {
                    rows.push(key.as_bytes(), body).await?;
                }
            }
            rows.finish().await
        }
    }

    fn patient(number: usize, padding: usize) -> Vec<u8> {
        format!("{{\"resourceType\":\"Patient\",\"id\":\"{number}\",\"x\":\"{}\"}}", "x".repeat(padding)).into_bytes()
    }

    fn table(rows: usize, padding: impl Fn(usize) -> usize) -> Table {
        // Some keys have the length of a byte offset.
        let row =
            |number| (format!("{number:03}-{}", "k".repeat(number % 9)), (patient(number, padding(number)), false));
        Table((0..rows).map(row).collect())
    }

    async fn read(table: &Table) -> contract::Collected {
        let plan = table.plan(&Asked::default()).await.unwrap();
        let (collected, result) = contract::read(table, &plan.ranges[0], &Cursor::start()).await;
        result.unwrap();
        collected
    }

    #[tokio::test]
    async fn rows_are_handed_over_in_blocks_and_none_is_lost() {
        let table = table(300, |number| number * 3);
        let collected = read(&table).await;
        assert!(collected.lines().eq(table.0.values().map(|(body, _)| body.as_slice())));
        assert!((2..20).contains(&collected.calls()), "{} calls", collected.calls());
    }

    #[tokio::test]
    async fn a_source_that_writes_rows_keeps_its_contract() {
        let mut table = table(200, |number| number * 7);
        for (key, (body, deleted)) in &mut table.0 {
            *deleted = key.contains("00-");
            body.insert(0, b' ');
        }
        contract::check(&table).await.unwrap();
        contract::check(&Table::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_row_longer_than_any_buffer_is_written_whole() {
        let table = table(3, |number| if number == 1 { BUFFER_BYTES * 3 } else { 0 });
        let collected = read(&table).await;
        assert_eq!(collected.row_ends().len(), 3);
        assert!(collected.too_long().is_empty());
        contract::check(&table).await.unwrap();
    }

    #[tokio::test]
    async fn blanks_around_a_row_do_not_make_it_too_long() {
        let mut table = table(1, |_| 0);
        let blanks = vec![b' '; 17 << 20];
        table.0.values_mut().for_each(|(body, _)| body.extend_from_slice(&blanks));
        assert!(read(&table).await.too_long().is_empty());
        table.0.values_mut().for_each(|(body, _)| body.push(b'x'));
        let collected = read(&table).await;
        assert_eq!(collected.too_long().len(), 1);
        assert!(collected.bytes().is_empty());
    }
}
