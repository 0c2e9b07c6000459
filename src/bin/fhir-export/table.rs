//! Tables of plain text: the first column to the left, numbers to the right.

use std::fmt;

/// A table with a head, rows and a last row under a rule.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
    pub(crate) last: Vec<String>,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).chain(&self.rows).chain([&self.last]);
        let width =
            |column: usize| lines().filter_map(|line| line.get(column)).map(|cell: &String| cell.chars().count()).max();
        let widths: Vec<usize> = (0..self.head.len()).map(|column| width(column).unwrap_or(0)).collect();
        let write = |f: &mut fmt::Formatter<'_>, line: &[String]| {
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(f, "{cell:<width$}")?;
                } else {
                    write!(f, "  {cell:>width$}")?;
                }
            }
            writeln!(f)
        };
        write(f, &self.head)?;
        for row in &self.rows {
            write(f, row)?;
        }
        let rule = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        writeln!(f, "{}", "-".repeat(rule))?;
        write(f, &self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_below_each_other() {
        let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let table = Table {
            head: row(&["type", "read"]),
            rows: vec![row(&["Account", "7"]), row(&["X", "1,234"])],
            last: row(&["total", "1,241"]),
        };
        let expected = "type      read\nAccount      7\nX        1,234\n--------------\ntotal    1,241\n";
        assert_eq!(table.to_string(), expected);
    }
}
