//! Sensors of `/sys/class/hwmon`: files such as `temp1_input` and `fan2_alarm`.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::host::{Host, folders, gauge, malformed, named, read, scaled, text};
use crate::telemetry::Page;

#[rustfmt::skip]
const TYPES: [&str; 13] = [
    "vrm", "beep_enable", "update_interval", "in", "cpu", "fan", "pwm", "temp", "curr", "power", "energy", "humidity", "intrusion",
];

/// By sensor (`temp1`) and property (`input`): what the files say.
type Sensors = BTreeMap<(String, &'static str), BTreeMap<String, String>>;

pub(super) fn hwmon(host: &Host, page: &mut Page) -> io::Result<()> {
    let mut outcome = Ok(());
    for folder in folders(&host.sys("class/hwmon"), "")?.values() {
        // A chip that is broken costs the others nothing.
        if let Err(error) = one_chip(host, folder, page) {
            outcome = Err(error);
        }
    }
    outcome
}

fn one_chip(host: &Host, folder: &Path, page: &mut Page) -> io::Result<()> {
    let chip = chip(folder)?;
    if !host.arguments.hwmon.shows(&chip) {
        return Ok(());
    }
    let mut sensors = Sensors::new();
    read_sensors(folder, &mut sensors)?;
    let device = folder.join("device");
    if device.exists() {
        read_sensors(&device, &mut sensors)?;
    }
    let name = text(&folder.join("name")).map(|name| clean(&name)).unwrap_or_default();
    if !name.is_empty() {
        let names = gauge("node_hwmon_chip_names", "Annotation metric for human-readable chip names");
        names.put(page, &[("chip", &chip), ("chip_name", &name)], 1.0);
    }
    let labelled = gauge("node_hwmon_sensor_label", "Label for given chip and sensor");
    for ((sensor, kind), properties) in &sensors {
        let labels = [("chip", chip.as_str()), ("sensor", sensor)];
        if let Some(label) = properties.get("label") {
            labelled.put(page, &[labels[0], labels[1], ("label", label)], 1.0);
        }
        for (property, text) in properties.iter().filter(|(property, _)| *property != "label") {
            let Ok(value) = text.parse::<f64>() else { continue };
            let (name, help, value) = metric(kind, property, properties.contains_key(""), value);
            let kind = if *kind == "energy" { "counter" } else { "gauge" };
            named(page, kind, &format!("node_hwmon_{name}"), help, &labels, value);
        }
    }
    Ok(())
}

/// The rest of the name, the help, and the value in the name's unit.
fn metric(kind: &str, property: &str, has_bare: bool, value: f64) -> (String, String, f64) {
    match kind {
        "beep_enable" => {
            return ("beep_enabled".to_owned(), "Hardware beep enabled".to_owned(), f64::from(value == 1.0));
        }
        "vrm" => {
            return ("voltage_regulator_version".to_owned(), "Hardware voltage regulator".to_owned(), value);
        }
        "update_interval" => {
            let help = "Hardware monitor update interval";
            return ("update_interval_seconds".to_owned(), help.to_owned(), value * 1e-3);
        }
        _ => {}
    }
    let name = match property {
        // The value itself, unless the sensor has another without a property.
        "input" if !has_bare => kind.to_owned(),
        "" => kind.to_owned(),
        property => format!("{kind}_{}", clean(property)),
    };
    let (unit, help, factor) = match (kind, property) {
        (_, "fault" | "alarm") => ("", format!("Hardware sensor {property} status ({kind})"), 1.0),
        (_, "beep") => ("_enabled", "Hardware monitor sensor has beeping enabled".to_owned(), 1.0),
        ("in" | "cpu", _) => ("_volts", format!("Hardware monitor for voltage ({property})"), 1e-3),
        ("temp", property) if property != "type" => {
            let property = if property.is_empty() { "input" } else { property };
            ("_celsius", format!("Hardware monitor for temperature ({property})"), 1e-3)
        }
        ("curr", _) => ("_amps", format!("Hardware monitor for current ({property})"), 1e-3),
        ("energy", _) => {
            ("_joule_total", format!("Hardware monitor for joules used so far ({property})"), 1e-6)
        }
        ("power", "accuracy") => ("", "Hardware monitor power meter accuracy, as a ratio".to_owned(), 1e-6),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", format!("Hardware monitor power usage update interval ({property})"), 1e-3)
        }
        ("power", _) => ("_watt", format!("Hardware monitor for power usage in watts ({property})"), 1e-6),
        ("humidity", _) => (
            "",
            format!(
                "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage) ({property})"
            ),
            1e-6,
        ),
        ("fan", "input" | "min" | "max" | "target") => {
            ("_rpm", format!("Hardware monitor for fan revolutions per minute ({property})"), 1.0)
        }
        _ => ("", format!("Hardware monitor {kind} element {property}"), 1.0),
    };
    (name + unit, help, scaled(value, factor))
}

/// The files of a folder that are named after a sensor.
fn read_sensors(folder: &Path, sensors: &mut Sensors) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let kind_end = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
        let Some(kind) = TYPES.into_iter().find(|kind| *kind == &name[..kind_end]) else { continue };
        let rest = name[kind_end..].trim_start_matches(|c: char| c.is_ascii_digit());
        let number = &name[kind_end..name.len() - rest.len()];
        let property = match rest.strip_prefix('_') {
            Some(property) if !property.is_empty() => property,
            None if rest.is_empty() => "",
            _ => continue,
        };
        if let Ok(text) = read(&folder.join(&name)) {
            let sensor = format!("{kind}{}", if number.is_empty() { "0" } else { number });
            sensors
                .entry((sensor, kind))
                .or_default()
                .insert(property.to_owned(), text.trim_matches('\n').to_owned());
        }
    }
    Ok(())
}

/// A chip's name: that of the device it stands for, else its own, else its folder's.
fn chip(folder: &Path) -> io::Result<String> {
    let part = |path: Option<&Path>| {
        path.and_then(Path::file_name).map(|name| clean(&name.to_string_lossy())).unwrap_or_default()
    };
    if let Ok(device) = folder.join("device").canonicalize() {
        let (bus, name) = (part(device.parent()), part(Some(&device)));
        match (bus.is_empty(), name.is_empty()) {
            (false, false) => return Ok(format!("{bus}_{name}")),
            (true, false) => return Ok(name),
            _ => {}
        }
    }
    let own = text(&folder.join("name")).map(|name| clean(&name)).unwrap_or_default();
    let name = if own.is_empty() { part(Some(&folder.canonicalize()?)) } else { own };
    if name.is_empty() { Err(malformed(&folder.to_string_lossy())) } else { Ok(name) }
}

fn clean(name: &str) -> String {
    let is_kept = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '_';
    let name: String = name.trim().to_lowercase().chars().map(|c| if is_kept(c) { c } else { '_' }).collect();
    name.trim_matches('_').to_owned()
}
