//! What the harness found, for people.

use std::{fmt, time::Duration};

use super::{Fault, PointId};

/// One case that ended differently from the undisturbed run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Divergence {
    pub fault: Fault,
    pub point: PointId,
    pub what: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fault, point, what } = self;
        write!(f, "{fault:?} {point}\n  {what}")
    }
}

#[derive(Debug, Clone, Default)]
pub struct Report {
    /// What the undisturbed run passed, in order.
    pub points: Vec<PointId>,
    /// How many cases there were to run, and how many were run within the budget.
    pub cases: usize,
    pub cases_run: usize,
    /// Why nothing could be compared.
    pub undisturbed: Option<String>,
    pub divergences: Vec<Divergence>,
    pub took: Duration,
}

impl Report {
    /// # Panics
    /// With the whole report, unless every case was run and none diverged.
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }

    pub fn is_clean(&self) -> bool {
        self.undisturbed.is_none()
            && self.divergences.is_empty()
            && self.cases_run == self.cases
            && self.cases > 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(trouble) = &self.undisturbed {
            return writeln!(f, "the undisturbed run is no reference: {trouble}");
        }
        writeln!(
            f,
            "{} points, {} of {} cases run in {:.1} s, {} divergences",
            self.points.len(),
            self.cases_run,
            self.cases,
            self.took.as_secs_f64(),
            self.divergences.len()
        )?;
        if self.cases == 0 {
            writeln!(f, "no case was selected, so nothing was proven")?;
        }
        if self.cases_run < self.cases {
            writeln!(
                f,
                "the budget ran out: raise it, or split the cases with FREEHOLD_FAULTS_SHARD=1/2"
            )?;
        }
        for divergence in &self.divergences {
            writeln!(f, "\n{divergence}")?;
        }
        if let Some(Divergence { fault, point, .. }) = self.divergences.first() {
            writeln!(
                f,
                "\nOne case alone: FREEHOLD_FAULTS_ONLY='{fault:?} {point}'"
            )?;
        }
        Ok(())
    }
}
