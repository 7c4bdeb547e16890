//! The units of systemd, asked over D-Bus (the interfaces of org.freedesktop.systemd1).

use std::collections::BTreeMap;
use std::io;
use std::sync::LazyLock;
use std::time::Duration;

use regex::Regex;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::wire::{OwnedObjectPath, Variant};

use super::arguments::Systemd;
use super::host::{Host, Metric, counter, gauge};
use crate::telemetry::Page;

/// How long all answers together may take.
const PATIENCE: Duration = Duration::from_secs(10);
const NAME: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

/// The kinds of units that have properties of their own, by the endings of their names.
const INTERFACES: [(&str, &str); 4] =
    [("service", "Service"), ("mount", "Mount"), ("socket", "Socket"), ("timer", "Timer")];

/// An interface, its property, and what that is shown as.
type Figure = (&'static str, &'static str, Metric);
const FIGURES: &[Figure] = &[
    (
        "Timer",
        "LastTriggerUSec",
        gauge("node_systemd_timer_last_trigger_seconds", "Seconds since epoch of last trigger.").times(1e-6),
    ),
    (
        "Socket",
        "NAccepted",
        counter(
            "node_systemd_socket_accepted_connections_total",
            "Total number of accepted socket connections",
        ),
    ),
    (
        "Socket",
        "NConnections",
        gauge("node_systemd_socket_current_connections", "Current number of socket connections"),
    ),
    (
        "Socket",
        "NRefused",
        // A gauge there, too.
        gauge("node_systemd_socket_refused_connections_total", "Total number of refused socket connections"),
    ),
];
const RESTARTS: Figure = (
    "Service",
    "NRestarts",
    counter("node_systemd_service_restart_total", "Service unit count of Restart triggers"),
);
const TASKS: &[Figure] = &[
    (
        "Service",
        "TasksCurrent",
        gauge("node_systemd_unit_tasks_current", "Current number of tasks per Systemd unit"),
    ),
    ("Service", "TasksMax", gauge("node_systemd_unit_tasks_max", "Maximum number of tasks per Systemd unit")),
];

/// As `ListUnits` gives it: name, description, load state, active state, sub state, who follows it, its object, and three of its job.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A connection to systemd.
struct Manager {
    connection: Connection,
    /// `None`: to itself, without a bus between.
    name: Option<&'static str>,
}

pub(super) fn systemd(host: &Host, page: &mut Page) -> io::Result<()> {
    let asked = async {
        let manager = Manager::connect(host).await?;
        manager.collect(&host.arguments.systemd, page).await
    };
    let asked = async { tokio::time::timeout(PATIENCE, asked).await };
    // Pages are made where one may block.
    match tokio::runtime::Handle::current().block_on(asked) {
        Ok(asked) => asked.map_err(|error| match error {
            zbus::Error::InputOutput(error) => io::Error::new(error.kind(), error.to_string()),
            other => io::Error::other(other),
        }),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "systemd does not answer")),
    }
}

impl Manager {
    /// Over the system's bus, or, where there is none and this is root, over systemd's own socket.
    async fn connect(host: &Host) -> zbus::Result<Manager> {
        let at = |path: &str| format!("unix:path={}", host.root(path).display());
        let bus =
            std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(|_| at("/run/dbus/system_bus_socket"));
        match Builder::address(bus.as_str()).build().await {
            Ok(connection) => Ok(Manager { connection, name: Some(NAME) }),
            Err(error) => match Builder::address(at("/run/systemd/private").as_str()).p2p().build().await {
                Ok(connection) => Ok(Manager { connection, name: None }),
                Err(_) => Err(error),
            },
        }
    }

    async fn collect(&self, wanted: &Systemd, page: &mut Page) -> zbus::Result<()> {
        let version = self.property(MANAGER, "Manager", "Version").await?;
        let version = text(&version);
        gauge("node_systemd_version", "Detected systemd version").put(
            page,
            &[("version", &version)],
            number(&version),
        );
        let manager = Some("org.freedesktop.systemd1.Manager");
        let reply = self.connection.call_method(self.name, MANAGER, manager, "ListUnits", &()).await?;
        let listed: Vec<Listed> = reply.body().deserialize()?;
        let mut states: BTreeMap<&str, u32> = STATES.map(|state| (state, 0)).into();
        listed.iter().for_each(|unit| *states.entry(&unit.3).or_default() += 1);
        let summary = gauge("node_systemd_units", "Summary of systemd unit states");
        states.iter().for_each(|(state, count)| summary.put(page, &[("state", state)], f64::from(*count)));
        let system = self.property(MANAGER, "Manager", "SystemState").await?;
        let help = "Whether the system is operational (see 'systemctl is-system-running')";
        gauge("node_systemd_system_running", help).put(page, &[], f64::from(text(&system) == "running"));
        for (name, _, load_state, state, _, _, object, ..) in &listed {
            if load_state == "loaded" && wanted.units.shows(name) {
                self.unit(name, state, object, wanted, page).await;
            }
        }
        Ok(())
    }

    /// What a unit does not say, or not any more, is left out.
    async fn unit(&self, name: &str, state: &str, object: &str, wanted: &Systemd, page: &mut Page) {
        let ending = name.rsplit('.').next().unwrap_or_default();
        let interface =
            INTERFACES.iter().find(|(other, _)| *other == ending).map(|(_, interface)| *interface);
        let kind = match interface {
            Some(interface @ ("Service" | "Mount")) => self.property(object, interface, "Type").await.ok(),
            _ => None,
        };
        let kind = kind.as_ref().map(text).unwrap_or_default();
        let metric = gauge("node_systemd_unit_state", "Systemd unit");
        for other in STATES {
            let labels = [("name", name), ("state", other), ("type", &kind)];
            metric.put(page, &labels, f64::from(state == other));
        }
        let restarts = wanted.enable_restarts.then_some(&RESTARTS);
        let tasks = TASKS.iter().filter(|_| wanted.task_metrics);
        for (of, property, metric) in FIGURES.iter().chain(restarts).chain(tasks) {
            if interface == Some(*of)
                && let Ok(value) = self.property(object, of, property).await
                && let Some(value) = figure(&value)
            {
                metric.put(page, &[("name", name)], value);
            }
        }
        if wanted.start_time {
            let started = match state {
                "active" => self.property(object, "Unit", "ActiveEnterTimestamp").await.ok(),
                _ => Some(Variant::U64(0)),
            };
            let help = "Start time of the unit since unix epoch in seconds.";
            if let Some(started) = started.as_ref().and_then(figure) {
                let metric = gauge("node_systemd_unit_start_time_seconds", help).times(1e-6);
                metric.put(page, &[("name", name)], started);
            }
        }
    }

    async fn property(
        &self,
        object: &str,
        interface: &str,
        property: &str,
    ) -> zbus::Result<Variant<'static>> {
        let asked = (format!("org.freedesktop.systemd1.{interface}"), property);
        let properties = Some("org.freedesktop.DBus.Properties");
        let reply = self.connection.call_method(self.name, object, properties, "Get", &asked).await?;
        let body = reply.body();
        let value: Variant<'_> = body.deserialize()?;
        Ok(value.try_to_owned()?.into())
    }
}

fn text(value: &Variant<'_>) -> String {
    match value {
        Variant::Str(text) => text.to_string(),
        _ => String::new(),
    }
}

/// `None`: it is not set.
fn figure(value: &Variant<'_>) -> Option<f64> {
    match value {
        Variant::U32(figure) => Some(f64::from(*figure)),
        Variant::U64(figure) => (*figure < u64::MAX).then_some(*figure as f64),
        _ => None,
    }
}

/// Of `252.39-1~deb12u1` 252.39; 0 if there is none.
fn number(version: &str) -> f64 {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[0-9]{3,}(\.[0-9]+)?").expect("it is one"));
    NUMBER.find(version).and_then(|number| number.as_str().parse().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_versions_number_is_found_as_node_exporter_finds_it() {
        let check = |version: &str, expected: f64| assert_eq!(number(version), expected, "{version}");
        check("252.39-1~deb12u1", 252.39);
        check("v257", 257.0);
        check("256~rc3", 256.0);
        check("unknown", 0.0);
    }
}
