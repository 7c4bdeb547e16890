//! Saving cursors, freeing segments and preparing spares.

use std::sync::Arc;

use crate::commit::Baton;
use crate::cursors::{CursorFile, Saved, durable_part, remove_notes};
use crate::log::{Log, State};
use crate::recovery::{SPARE_PREFIX, Spare};
use crate::segment::{Segment, lock};
use crate::storage::{Fill, SegmentFile};
use crate::wakers;
use crate::{Error, Position, Result, Watermarks};

impl Log {
    pub(crate) fn save_all_cursors(&self) -> Result<()> {
        let ahead = {
            let state = self.lock();
            state.check()?;
            state.consumers.acknowledged_end() > state.watermarks.durable
        };
        if ahead {
            self.sync_staged()?;
        }
        self.save_durable_cursors()
    }

    /// Saves what of the cursors is not ahead of the durable log.
    fn save_durable_cursors(&self) -> Result<()> {
        let mut file = lock(&self.cursor_file);
        let (snapshot, saved) = {
            let state = self.lock();
            (state.consumers.clone(), self.cursors_up_to(&state, state.watermarks.durable))
        };
        let durable = saved.hint.durable;
        file.save(&*self.storage, saved)?;
        let mut state = self.lock();
        state.consumers.saved(&snapshot, durable);
        state.cursor_bytes = file.bytes();
        Ok(())
    }

    /// What is to be saved of the cursors: nothing at or beyond `end`.
    fn cursors_up_to(&self, state: &State, end: Position) -> Saved {
        Saved {
            generation: 0,
            log_id: self.log_id,
            hint: state.hint,
            dropped_below: state.dropped_below,
            consumers: durable_part(&state.consumers, end),
        }
    }

    /// Puts all cursors into the file of notes, which is made if there is none.
    pub(crate) fn note_all_cursors(&self) -> Result<()> {
        let mut notes = lock(&self.notes);
        let saved = {
            let state = self.lock();
            self.cursors_up_to(&state, state.watermarks.written)
        };
        match notes.as_mut() {
            Some(file) => file.save(&*self.storage, saved)?,
            None => *notes = Some(CursorFile::create_notes(&*self.storage, saved)?),
        }
        self.lock().notes_bytes = notes.as_ref().map_or(0, CursorFile::bytes);
        Ok(())
    }

    /// Saves that this consumer is gone, and forgets the notes, which know it: one that is made later under its name must not begin
    /// where it stood.
    pub(crate) fn save_removal(&self) -> Result<()> {
        self.save_all_cursors()?;
        self.forget_notes()
    }

    pub(crate) fn forget_notes(&self) -> Result<()> {
        let mut notes = lock(&self.notes);
        let Some(file) = notes.as_mut() else { return Ok(()) };
        // Until it is removed for certain, it is neither written to nor forgotten.
        file.distrust();
        remove_notes(&*self.storage)?;
        *notes = None;
        self.lock().notes_bytes = 0;
        Ok(())
    }

    pub(crate) fn release_passed(&self, now_ms: u64) -> Result<Watermarks> {
        self.save_all_cursors()?;
        let mut state = self.lock();
        let before = state.watermarks;
        state.free_passed();
        state.staging.pool.trim();
        let mut seal = false;
        if let Some(max_age_ms) = self.options.max_age_ms {
            state.drop_aged(now_ms, max_age_ms);
            seal = state.active_is_old(now_ms, max_age_ms);
        }
        let woken = if state.watermarks == before { Vec::new() } else { state.wakers.take() };
        drop(state);
        wakers::wake(woken);
        if seal && let Some(_held) = self.take_baton(Baton::Write, |_| false)? {
            self.lock().active = None;
        }
        self.free_files()?;
        Ok(self.lock().watermarks)
    }

    /// Frees the files of segments that `append` had to drop. An error is no reason not to write: they are tried again.
    pub(crate) fn free_dropped(&self) {
        if !self.lock().freed.is_empty() {
            let _ = self.free_files();
        }
    }

    /// Frees files that are out of the log: the cursors first, so that no saved cursor points into nothing, then the files, then
    /// their names.
    fn free_files(&self) -> Result<()> {
        if self.lock().freed.is_empty() {
            return Ok(());
        }
        self.save_durable_cursors()?;
        let freed = std::mem::take(&mut self.lock().freed);
        let mut result = Ok(());
        for segment in freed {
            result = result.and(self.free(segment));
        }
        let synced = self.storage.sync_directory();
        result.and(synced.map_err(|error| Error::io("sync", self.storage.location(), error)))
    }

    /// Makes a spare of the file, or removes it; puts the segment back on the list if that fails.
    fn free(&self, segment: Arc<Segment>) -> Result<()> {
        self.resumes.forget(segment.header.number);
        let segment = match Arc::try_unwrap(segment) {
            // Nobody reads it any more. Its old frames need no erasing: they are valid under the old salt only.
            Ok(segment)
                if segment.file_bytes == self.options.segment_bytes && !segment.file.has_windows() =>
            {
                let Some(name) = self.begin_spare() else { return self.remove_segment(Arc::new(segment)) };
                if self.storage.rename(&segment.name, &name).is_ok() {
                    self.end_spare(Some(Spare { name, file: segment.file }));
                    return Ok(());
                }
                self.end_spare(None);
                Arc::new(segment)
            }
            Ok(segment) => Arc::new(segment),
            Err(segment) => segment,
        };
        self.remove_segment(segment)
    }

    fn remove_segment(&self, segment: Arc<Segment>) -> Result<()> {
        self.storage.remove(&segment.name).map_err(|error| {
            let error = Error::io("remove", &segment.name, error);
            self.lock().freed.push(segment);
            error
        })
    }

    /// A name for one more spare, if one is wanted; to be followed by `end_spare`.
    fn begin_spare(&self) -> Option<String> {
        let mut state = self.lock();
        if state.spares.len() + state.spares_coming >= self.options.spares {
            return None;
        }
        state.spares_coming += 1;
        state.next_spare += 1;
        Some(format!("{SPARE_PREFIX}{}", state.next_spare))
    }

    fn end_spare(&self, spare: Option<Spare>) {
        let mut state = self.lock();
        state.spares_coming -= 1;
        state.spares.extend(spare);
    }

    pub(crate) fn prepare_spares(&self) -> Result<()> {
        self.lock().check()?;
        while let Some(name) = self.begin_spare() {
            let created = self.create_spare(&name);
            let (spare, result) = match created {
                Ok(file) => (Some(Spare { name, file }), Ok(())),
                Err(error) => (None, Err(error)),
            };
            self.end_spare(spare);
            result?;
        }
        Ok(())
    }

    fn create_spare(&self, name: &str) -> Result<Box<dyn SegmentFile>> {
        let created = self.storage.create(name, self.options.segment_bytes, Fill::Zeros);
        let file = created.map_err(|error| Error::io("prepare", name, error))?;
        if let Err(error) = file.sync() {
            // What the device kept of it is not known; the space is wanted back.
            let _ = self.storage.remove(name);
            return Err(Error::io("sync", name, error));
        }
        Ok(file)
    }
}
