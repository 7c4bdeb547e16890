//! What discovery finds.

use std::collections::BTreeMap;
use std::hash::Hasher;

/// The labels of something to scrape or to read, by name. Labels that begin with `__meta_` describe it only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Target(pub BTreeMap<String, String>);

impl Target {
    /// The value of that label.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Its key for sharding: XXH64 over `name 0xFF value 0xFF` of all labels but `__meta_*`, in the order of names
    /// (what Alloy hashes, so that the identity of a target means the same).
    pub fn key(&self) -> u64 {
        self.key_without(&[])
    }

    /// Its key without these labels too: for labels that differ between the members of a cluster.
    pub fn key_without(&self, excluded: &[String]) -> u64 {
        let counts = |name: &String| !name.starts_with("__meta_") && !excluded.contains(name);
        let mut hasher = twox_hash::XxHash64::with_seed(0);
        for (name, value) in self.0.iter().filter(|(name, _)| counts(name)) {
            hasher.write(name.as_bytes());
            hasher.write(&[0xff]);
            hasher.write(value.as_bytes());
            hasher.write(&[0xff]);
        }
        hasher.finish()
    }

    /// The labels that stay: all whose name does not begin with `__`.
    pub fn public_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .filter(|(name, _)| !name.starts_with("__"))
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(pairs: &[(&str, &str)]) -> Target {
        Target(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    #[test]
    fn the_key_ignores_meta_labels_and_nothing_else() {
        let plain = target(&[("__address__", "a:1"), ("job", "x")]);
        assert_eq!(plain.key(), target(&[("__address__", "a:1"), ("job", "x"), ("__meta_y", "z")]).key());
        assert_ne!(plain.key(), target(&[("__address__", "a:1"), ("job", "y")]).key());
        assert_ne!(
            plain.key(),
            target(&[("__address__", "a:1"), ("job", "x"), ("__scheme__", "https")]).key()
        );
    }

    #[test]
    fn excluded_labels_do_not_count() {
        let (one, other) = (
            target(&[("__address__", "a:1"), ("node", "x")]),
            target(&[("__address__", "a:1"), ("node", "y")]),
        );
        let excluded = ["node".to_owned()];
        assert_eq!(one.key_without(&excluded), other.key_without(&excluded));
        assert_eq!(one.key_without(&excluded), target(&[("__address__", "a:1")]).key());
    }

    #[test]
    fn the_key_of_a_target_never_changes_between_builds() {
        assert_eq!(
            target(&[("__address__", "localhost:9090"), ("job", "a")]).key(),
            17_506_952_595_363_822_930
        );
    }
}
