//! The board, its power and its heat.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use super::host::{
    Host, figure, folders, gauge, named, nothing, numbered, parse, properties, required, text,
};
use crate::telemetry::Page;

pub(super) fn dmi(host: &Host, page: &mut Page) -> io::Result<()> {
    #[rustfmt::skip]
    const FILES: [&str; 20] = [
        "bios_date", "bios_release", "bios_vendor", "bios_version",
        "board_asset_tag", "board_name", "board_serial", "board_vendor", "board_version",
        "chassis_asset_tag", "chassis_serial", "chassis_vendor", "chassis_version",
        "product_family", "product_name", "product_serial", "product_sku", "product_uuid", "product_version",
        "sys_vendor",
    ];
    let folder = host.sys("class/dmi/id");
    let info = gauge(
        "node_dmi_info",
        "A metric with a constant '1' value labeled by bios_date, bios_release, bios_vendor, bios_version, \
         board_asset_tag, board_name, board_serial, board_vendor, board_version, chassis_asset_tag, chassis_serial, \
         chassis_vendor, chassis_version, product_family, product_name, product_serial, product_sku, product_uuid, \
         product_version, system_vendor if provided by DMI.",
    );
    // Serial numbers are for root alone.
    let texts: Vec<_> =
        FILES.iter().filter_map(|file| Some((*file, text(&folder.join(file)).ok()?))).collect();
    let label = |file| if file == "sys_vendor" { "system_vendor" } else { file };
    let labels: Vec<_> = texts.iter().map(|(file, text)| (label(*file), text.as_str())).collect();
    if labels.is_empty() {
        return Err(nothing());
    }
    info.put(page, &labels, 1.0);
    Ok(())
}

pub(super) fn powersupplyclass(host: &Host, page: &mut Page) -> io::Result<()> {
    const MICRO: f64 = 1e-6;
    const TENTH: f64 = 0.1;
    #[rustfmt::skip]
    const TABLE: [(&str, &str, f64); 49] = [
        ("authentic", "authentic", 1.0),
        ("calibrate", "calibrate", 1.0),
        ("capacity", "capacity", 1.0),
        ("capacity_alert_max", "capacity_alert_max", 1.0),
        ("capacity_alert_min", "capacity_alert_min", 1.0),
        ("cycle_count", "cyclecount", 1.0),
        ("online", "online", 1.0),
        ("present", "present", 1.0),
        ("time_to_empty_now", "time_to_empty_seconds", 1.0),
        ("time_to_full_now", "time_to_full_seconds", 1.0),
        ("current_boot", "current_boot", MICRO),
        ("current_max", "current_max", MICRO),
        ("current_now", "current_ampere", MICRO),
        ("energy_empty", "energy_empty", MICRO),
        ("energy_empty_design", "energy_empty_design", MICRO),
        ("energy_full", "energy_full", MICRO),
        ("energy_full_design", "energy_full_design", MICRO),
        ("energy_now", "energy_watthour", MICRO),
        ("voltage_boot", "voltage_boot", MICRO),
        ("voltage_max", "voltage_max", MICRO),
        ("voltage_max_design", "voltage_max_design", MICRO),
        ("voltage_min", "voltage_min", MICRO),
        ("voltage_min_design", "voltage_min_design", MICRO),
        ("voltage_now", "voltage_volt", MICRO),
        ("voltage_ocv", "voltage_ocv", MICRO),
        ("charge_control_limit", "charge_control_limit", MICRO),
        ("charge_control_limit_max", "charge_control_limit_max", MICRO),
        ("charge_counter", "charge_counter", MICRO),
        ("charge_empty", "charge_empty", MICRO),
        ("charge_empty_design", "charge_empty_design", MICRO),
        ("charge_full", "charge_full", MICRO),
        ("charge_full_design", "charge_full_design", MICRO),
        ("charge_now", "charge_ampere", MICRO),
        ("charge_term_current", "charge_term_current", MICRO),
        ("constant_charge_current", "constant_charge_current", MICRO),
        ("constant_charge_current_max", "constant_charge_current_max", MICRO),
        ("constant_charge_voltage", "constant_charge_voltage", MICRO),
        ("constant_charge_voltage_max", "constant_charge_voltage_max", MICRO),
        ("precharge_current", "precharge_current", MICRO),
        ("input_current_limit", "input_current_limit", MICRO),
        ("power_now", "power_watt", MICRO),
        ("temp", "temp_celsius", TENTH),
        ("temp_alert_max", "temp_alert_max_celsius", TENTH),
        ("temp_alert_min", "temp_alert_min_celsius", TENTH),
        ("temp_ambient", "temp_ambient_celsius", TENTH),
        ("temp_ambient_max", "temp_ambient_max_celsius", TENTH),
        ("temp_ambient_min", "temp_ambient_min_celsius", TENTH),
        ("temp_max", "temp_max_celsius", TENTH),
        ("temp_min", "temp_min_celsius", TENTH),
    ];
    #[rustfmt::skip]
    const TEXTS: [&str; 11] = [
        "capacity_level", "charge_type", "health", "manufacturer", "model_name", "scope", "serial_number", "status",
        "technology", "type", "usb_type",
    ];
    let info = gauge("node_power_supply_info", "info of /sys/class/power_supply/<power_supply>.");
    for (name, folder) in folders(&host.sys("class/power_supply"), "")? {
        if !host.arguments.powersupply.shows(&name) {
            continue;
        }
        let supply = [("power_supply", name.as_str())];
        let help: fn(&str) -> String =
            |name| format!("{name} value of /sys/class/power_supply/<power_supply>.");
        properties(page, &folder, &supply, ("node_power_supply_", help), &TABLE);
        let texts = TEXTS.map(|file| (file, text(&folder.join(file)).unwrap_or_default()));
        let labels =
            texts.iter().filter(|(_, text)| !text.is_empty()).map(|(file, text)| (*file, text.as_str()));
        info.put(page, &supply.into_iter().chain(labels).collect::<Vec<_>>(), 1.0);
    }
    Ok(())
}

pub(super) fn rapl(host: &Host, page: &mut Page) -> io::Result<()> {
    let mut used: BTreeMap<String, u32> = BTreeMap::new();
    for (zone, folder) in folders(&host.sys("class/powercap"), "")? {
        let Ok(name) = text(&folder.join("name")) else { continue };
        // `package-0` has its number in its name; several `dram` are counted.
        let (index, name) = match name.split_once('-').map(|(name, index)| (name, index.parse())) {
            Some((name, Ok(index))) => (index, name.to_owned()),
            _ => (used.get(&name).copied().unwrap_or_default(), name),
        };
        used.insert(name.clone(), index + 1);
        let energy = match required(&folder.join("energy_uj")) {
            // For root alone, since it tells what others compute.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(nothing()),
            energy => energy?,
        };
        let path = host.sys("class/powercap").join(zone);
        let metric: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let labels = [("index", &*index.to_string()), ("path", &*path.to_string_lossy())];
        let help = format!("Current RAPL {name} value in joules");
        named(page, "counter", &format!("node_rapl_{metric}_joules_total"), help, &labels, energy / 1e6);
    }
    Ok(())
}

pub(super) fn thermal_zone(host: &Host, page: &mut Page) -> io::Result<()> {
    let temperature = gauge("node_thermal_zone_temp", "Zone temperature in Celsius").times(1e-3);
    let current = gauge("node_cooling_device_cur_state", "Current throttle state of the cooling device");
    let most = gauge("node_cooling_device_max_state", "Maximum throttle state of the cooling device");
    let folder = host.sys("class/thermal");
    for (zone, folder) in numbered(&folder, "thermal_zone")? {
        // One that is switched off has no temperature.
        if let Some(value) = figure(&folder.join("temp")) {
            temperature.put(page, &[("zone", &zone), ("type", &text(&folder.join("type"))?)], value);
        }
    }
    for (name, folder) in numbered(&folder, "cooling_device")? {
        let kind = text(&folder.join("type"))?;
        let labels = [("name", name.as_str()), ("type", &kind)];
        current.put(page, &labels, parse(&text(&folder.join("cur_state"))?)?);
        most.put(page, &labels, parse(&text(&folder.join("max_state"))?)?);
    }
    Ok(())
}
