//! What the system says of the process and of the processor's temperature, read when somebody asks.

use std::fmt;
use std::fs;
use std::path::Path;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::eval::probe::resident_rss;

use super::panics;

/// Parts of a second in which Linux tells processor times, whatever its own clock is.
const TICKS: f64 = 100.0;
/// What kinds of thermal zones measure the processor.
const PROCESSOR_ZONES: [&str; 4] = ["cpu", "soc", "x86_pkg_temp", "k10temp"];
/// What a Raspberry Pi says of its power and heat.
const PI_THROTTLED: &str = "devices/platform/soc/soc:firmware/get_throttled";
/// Its bits that say that the processor is slower at this moment: capped, throttled, or at the soft limit of heat.
const PI_SLOW: u32 = 0b1110;

/// Tells what the system says.
#[derive(Debug)]
pub(super) struct Machine;

impl Collector for Machine {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => {
                let gauge = ConstGauge::new(value);
                gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
            }
            None => Ok(()),
        };
        let memory = resident_rss().map(|bytes| bytes as f64);
        gauge("process_resident_memory_bytes", "Physical memory of the process", memory)?;
        let files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as f64);
        gauge("process_open_fds", "Descriptors that are open", files)?;
        let system = Path::new("/sys");
        gauge("cpu_temperature_celsius", "Temperature of the processor", temperature(system))?;
        let throttled = throttled(system).map(|throttled| f64::from(u8::from(throttled)));
        gauge("cpu_throttled", "1 where heat or power makes the processor slower", throttled)?;
        let counter = MetricType::Counter;
        let help = "Failures of the program, each of which cost a request";
        ConstCounter::new(panics::count())
            .encode(encoder.encode_descriptor("panics", help, None, counter)?)?;
        let Some(seconds) = cpu_seconds(&fs::read_to_string("/proc/self/stat").unwrap_or_default()) else {
            return Ok(());
        };
        let help = "Processor time of the process";
        let descriptor = encoder.encode_descriptor("process_cpu_seconds", help, None, counter)?;
        ConstCounter::new(seconds).encode(descriptor)
    }
}

/// User and system time, from Linux' line about a process.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name before it may hold spaces and brackets.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map(str::parse::<u64>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some((user + system) as f64 / TICKS)
}

/// The temperature of the processor in degrees Celsius: the highest where several are told.
fn temperature(system: &Path) -> Option<f64> {
    let zones = fs::read_dir(system.join("class/thermal")).ok()?;
    let of_zone = |zone: std::path::PathBuf| {
        let kind = fs::read_to_string(zone.join("type")).ok()?;
        if !PROCESSOR_ZONES.iter().any(|known| kind.starts_with(known)) {
            return None;
        }
        let thousandths: f64 = fs::read_to_string(zone.join("temp")).ok()?.trim().parse().ok()?;
        Some(thousandths / 1000.0)
    };
    zones.filter_map(|zone| of_zone(zone.ok()?.path())).reduce(f64::max)
}

/// Whether heat or power makes the processor slower at this moment, where a Raspberry Pi tells.
fn throttled(system: &Path) -> Option<bool> {
    let text = fs::read_to_string(system.join(PI_THROTTLED)).ok()?;
    let digits = text.trim();
    let bits = u32::from_str_radix(digits.strip_prefix("0x").unwrap_or(digits), 16).ok()?;
    Some(bits & PI_SLOW != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "12 (a) (b) 3) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        for broken in ["", "12 (a) S 1 2", "12 (a) S 1 2 3 4 5 6 7 8 9 10 x 50"] {
            assert_eq!(cpu_seconds(broken), None, "{broken}");
        }
    }

    #[test]
    fn temperatures_of_the_processor_are_found() {
        let root = std::env::temp_dir().join(format!("smolt-sys-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!((temperature(&root), throttled(&root)), (None, None));
        write("class/thermal/thermal_zone0/type", "acpitz\n");
        write("class/thermal/thermal_zone0/temp", "90000\n");
        assert_eq!(temperature(&root), None);
        for (zone, kind, temp) in
            [(1, "cpu-thermal\n", "48312\n"), (2, "soc_thermal\n", "47000\n"), (3, "cpu\n", "?")]
        {
            write(&format!("class/thermal/thermal_zone{zone}/type"), kind);
            write(&format!("class/thermal/thermal_zone{zone}/temp"), temp);
        }
        assert_eq!(temperature(&root), Some(48.312));
        // Bit 18: it was throttled at some time; bit 2: it is.
        for (text, wanted) in
            [("0", Some(false)), ("40000\n", Some(false)), ("0x40004\n", Some(true)), ("-", None)]
        {
            write(PI_THROTTLED, text);
            assert_eq!(throttled(&root), wanted, "{text}");
        }
        fs::remove_dir_all(root).unwrap();
    }
}
