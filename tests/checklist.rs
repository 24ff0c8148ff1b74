//! Every item of the checklist names tests that are there.

use crate::shared::repository;

/// Items of `tests/CHECKLIST.md`: hostile inputs of models, texts, templates and weights, of updates, and of the server.
const ITEMS: std::ops::RangeInclusive<usize> = 1..=138;

#[test]
fn every_item_names_tests_that_exist() {
    let list = std::fs::read_to_string(repository("tests/CHECKLIST.md")).unwrap();
    let mut numbers = vec![];
    for row in list.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| item")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, tests] = cells[..] else { panic!("three cells: {row}") };
        numbers.push(number.parse::<usize>().unwrap());
        // `file::name`, of which there is at least one.
        let mut count = 0;
        for named in tests.split('`').skip(1).step_by(2) {
            let (file, name) = named.split_once("::").unwrap_or_else(|| panic!("{named} is no FILE::TEST"));
            let source =
                std::fs::read_to_string(repository(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
            // One of the lies of a table is a test too.
            let is_there =
                source.contains(&format!("fn {name}(")) || source.contains(&format!("\n    {name}: "));
            assert!(is_there, "{number}: {file} has no test {name}");
            count += 1;
        }
        assert!(count > 0, "{row}");
    }
    assert_eq!(numbers, ITEMS.collect::<Vec<_>>());
}
