//! What the board says of the energy it takes.

use std::fs;
use std::path::PathBuf;

/// Counters of energy in microjoules, as Linux shows them (`hwmon` `energy*_input`, `powercap` `energy_uj`).
#[derive(Clone, Debug)]
pub struct EnergyMeter {
    counters: Vec<PathBuf>,
}

impl EnergyMeter {
    /// The counters of this machine that can be read; `None` if there are none.
    pub fn find() -> Option<Self> {
        Self::below("/sys/class/powercap", "energy_uj").or_else(|| Self::below("/sys/class/hwmon", "energy"))
    }

    /// The counters in the folders below `root`. Zones within zones (`name:0:1`) are parts of others.
    fn below(root: &str, prefix: &str) -> Option<Self> {
        let folders = fs::read_dir(root).ok()?.flatten();
        let whole = folders.filter(|folder| folder.file_name().to_string_lossy().matches(':').count() <= 1);
        let files = whole.filter_map(|folder| fs::read_dir(folder.path()).ok()).flatten().flatten();
        let is_counter =
            |name: &str| name == prefix || (name.starts_with(prefix) && name.ends_with("_input"));
        let named = files.filter(|file| is_counter(&file.file_name().to_string_lossy()));
        let counters: Vec<PathBuf> = named.map(|file| file.path()).collect();
        let meter = Self { counters };
        meter.joules().filter(|_| !meter.counters.is_empty()).map(|_| meter)
    }

    /// Energy since some time in the past, in joules; `None` if a counter cannot be read.
    pub fn joules(&self) -> Option<f64> {
        let counter = |path: &PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
        let sum = self.counters.iter().map(counter).sum::<Option<u64>>()?;
        Some(sum as f64 * 1e-6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_added() {
        let root = std::env::temp_dir().join(format!("smolt-energy-{}", std::process::id()));
        for (folder, file, value) in [
            ("zone:0", "energy_uj", "1500000\n"),
            ("zone:1", "energy_uj", "250000\n"),
            ("zone:0:0", "energy_uj", "7\n"),
            ("zone:1", "max_energy_range_uj", "9\n"),
        ] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join(file), value).unwrap();
        }
        let path = root.display().to_string();
        assert_eq!(EnergyMeter::below(&path, "energy_uj").unwrap().joules(), Some(1.75));
        fs::write(root.join("zone:1/energy_uj"), "many").unwrap();
        assert!(EnergyMeter::below(&path, "energy_uj").is_none());
        fs::remove_dir_all(&root).unwrap();
        assert!(EnergyMeter::below(&path, "energy_uj").is_none());
    }
}
