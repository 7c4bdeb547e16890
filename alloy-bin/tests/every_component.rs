//! Every component of the registry is in a configuration like those of Alloy's documentation, `fixtures/alloy/NAME.alloy`,
//! and can be made of it. While it is made, debug builds compare what it exports with what its `EXPORTS` say.

use std::path::Path;

use alloy_bin::components::registrations;
use alloy_bin::graph::{Checked, Host};
use alloy_bin::ownership::{self, ClusterFlags};

#[tokio::test]
async fn every_component_is_made_of_what_alloys_documentation_shows() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/alloy");
    for registration in registrations() {
        let name = registration.name();
        let path = folder.join(format!("{name}.alloy"));
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            text.lines().any(|line| line.starts_with(&format!("{name} \"")) || line == format!("{name} {{")),
            "{name} is not in its file"
        );

        let storage = tempfile::tempdir().expect("a temporary folder");
        let ownership = ownership::start(&ClusterFlags::default(), "host", ([127, 0, 0, 1], 1).into())
            .await
            .expect("nobody is asked")
            .ownership;
        let host = Host { storage: storage.path().to_owned(), ownership, cluster_name: String::new() };
        let checked =
            Checked::load(&path, &registrations(), "host").unwrap_or_else(|error| panic!("{error}"));
        checked.build(host, |_| ()).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
