//! Runs actions under the fence, one by one, each between two gates.
//!
//! An effect looks again at what it is about to change, now that nobody else can: what was planned
//! may have been done by another worker of the same epoch, or be impossible by now. Then it does
//! nothing, and the next look says so.

use std::fs;

use super::{
    connect::{self, Directory, FILE_MODE, FOLDER_MODE},
    errors::At as _,
    observe::{self, Found, Spot},
    plan::{self, Action, Goal},
    registry::{Registry, RegistryRow, RowState},
};
use crate::Result;

/// Does what an action says, while the registry's write lock is held.
pub(crate) fn perform(
    directory: &Directory,
    goal: &Goal,
    action: &Action,
    registry: &Registry,
    row: &RegistryRow,
) -> Result<()> {
    let doing = action.effect(&goal.name);
    let effect = Effect {
        directory,
        goal,
        registry,
        row,
        doing: &doing,
    };
    match action {
        Action::RestrictDirectory { .. } => {
            connect::restrict(&directory.root, FOLDER_MODE, &doing)?;
            connect::restrict(&directory.registry(), FILE_MODE, &doing)
        }
        Action::Make => effect.make(),
        Action::Publish => effect.publish(),
        Action::Record => effect.record(),
        Action::Close => effect.close(),
        Action::Reopen => effect.reopen(),
        Action::Restrict { .. } => effect.restrict(),
        Action::UseLog { .. } => effect.use_log(),
        Action::Report { .. } => Ok(()),
    }
}

struct Effect<'a> {
    directory: &'a Directory,
    goal: &'a Goal,
    registry: &'a Registry,
    row: &'a RegistryRow,
    doing: &'a str,
}

impl Effect<'_> {
    fn spots(&self) -> Result<[Spot; 3]> {
        let (directory, folder) = (self.directory, &self.goal.folder);
        Ok([
            observe::spot(&directory.home(folder), folder)?,
            observe::spot(&directory.quarantine(folder), folder)?,
            observe::spot(&directory.making(folder), folder)?,
        ])
    }

    fn make(&self) -> Result<()> {
        let [home, quarantine, making] = self.spots()?;
        let place = self.row.place.as_ref();
        let made = making.holds(place).is_some() || home.holds(place).is_some();
        if self.row.state == RowState::Created || made {
            return Ok(());
        }
        plan::vacant(self.goal, &[&home, &quarantine])?;
        let folder = self.directory.making(&self.goal.folder);
        let built = self.build();
        if built.is_err() {
            // What is left, the next attempt throws away.
            let _ = fs::remove_dir_all(&folder);
        }
        built
    }

    fn build(&self) -> Result<()> {
        let (directory, doing) = (self.directory, self.doing);
        let folder = directory.making(&self.goal.folder);
        connect::ensure_folder(&directory.makings(), doing)?;
        if folder.symlink_metadata().is_ok() {
            fs::remove_dir_all(&folder).at(&folder, doing)?;
        }
        connect::make_folder(&folder, doing)?;
        let file = folder.join(self.goal.folder.file());
        // Zero is what a file has that nobody marked.
        let mark = (i32::from_be_bytes(directory.random()) & i32::MAX).max(1);
        let connection = connect::make_file(&file, mark, directory.busy, doing)?;
        connect::close(connection, &file, doing)?;
        connect::sync_folder(&folder, doing)?;
        connect::sync_folder(&directory.makings(), doing)?;
        let place = connect::Place::at(&file, doing)?.to_string();
        self.registry.read(doing, |connection| {
            connection.execute(
                "UPDATE database SET state = 'creating', place = ?2, mark = ?3 WHERE name = ?1",
                (&self.goal.name, place, mark),
            )
        })?;
        Ok(())
    }

    fn publish(&self) -> Result<()> {
        let [home, _, making] = self.spots()?;
        let place = self.row.place.as_ref();
        if self.row.state != RowState::Creating {
            return Ok(());
        }
        if home.holds(place).is_none() {
            if making.holds(place).is_none() {
                return Ok(());
            }
            plan::vacant(self.goal, &[&home])?;
            let folder = &self.goal.folder;
            self.shift(&self.directory.making(folder), &self.directory.home(folder))?;
        }
        self.note("UPDATE database SET state = 'created' WHERE name = ?1")
    }

    fn record(&self) -> Result<()> {
        let [home, quarantine, _] = self.spots()?;
        let ((Spot::File(found), Spot::Empty) | (Spot::Empty, Spot::File(found))) =
            (&home, &quarantine)
        else {
            return Ok(());
        };
        if self.row.place.is_some() {
            return Ok(());
        }
        let place = found.place.to_string();
        self.registry.read(self.doing, |connection| {
            connection.execute(
                "UPDATE database SET place = ?2 WHERE name = ?1",
                (&self.goal.name, place),
            )
        })?;
        Ok(())
    }

    fn close(&self) -> Result<()> {
        let [home, quarantine, _] = self.spots()?;
        if home.holds(self.row.place.as_ref()).is_none() {
            return Ok(());
        }
        plan::vacant(self.goal, &[&quarantine])?;
        let folder = &self.goal.folder;
        self.shift(
            &self.directory.home(folder),
            &self.directory.quarantine(folder),
        )
    }

    fn reopen(&self) -> Result<()> {
        let [home, quarantine, _] = self.spots()?;
        if quarantine.holds(self.row.place.as_ref()).is_none() {
            return Ok(());
        }
        plan::vacant(self.goal, &[&home])?;
        let folder = &self.goal.folder;
        self.shift(
            &self.directory.quarantine(folder),
            &self.directory.home(folder),
        )
    }

    fn restrict(&self) -> Result<()> {
        let Some(found) = self.ours()? else {
            return Ok(());
        };
        for part in &found.parts {
            if part.stranger.is_none() && part.mode != part.should {
                connect::restrict(&part.path, part.should, self.doing)?;
            }
        }
        Ok(())
    }

    fn use_log(&self) -> Result<()> {
        let [home, ..] = self.spots()?;
        if home.holds(self.row.place.as_ref()).is_none() {
            return Ok(());
        }
        let folder = &self.goal.folder;
        let file = self.directory.home(folder).join(folder.file());
        let connection = connect::open(&file, self.directory.busy, self.doing)?;
        connect::use_log(&connection, &file, self.doing)?;
        connect::close(connection, &file, self.doing)
    }

    /// The database's folder, wherever it is.
    fn ours(&self) -> Result<Option<Found>> {
        let place = self.row.place.as_ref();
        let spots = self.spots()?;
        Ok(spots.iter().find_map(|spot| spot.holds(place)).cloned())
    }

    /// Moves the folder, and makes sure that it has moved before the registry says so.
    fn shift(&self, from: &std::path::Path, to: &std::path::Path) -> Result<()> {
        let parents = [from, to].map(std::path::Path::parent);
        if let [_, Some(target)] = parents {
            connect::ensure_folder(target, self.doing)?;
        }
        fs::rename(from, to).at(from, self.doing)?;
        for parent in parents.into_iter().flatten() {
            connect::sync_folder(parent, self.doing)?;
        }
        Ok(())
    }

    fn note(&self, statement: &str) -> Result<()> {
        self.registry.read(self.doing, |connection| {
            connection.execute(statement, [&self.goal.name])
        })?;
        Ok(())
    }
}
