//! Charts as SVG: size against divergence, and error by layer.
//!
//! Colours and letters come from the page's style sheet, by class. Each file has a colour, a shape and a dash pattern, so
//! that charts can be read in black and white too.

use std::fmt::Write;
use std::ops::Range;

use super::page::escape;
use super::show::{shorten, significant, some_layers};
use super::{Compared, bootstrap::KL_FLOOR};

/// Colours in the style sheet.
pub(super) const COLOURS: usize = 6;
/// Width of a chart in its own units; letters have a height of 11.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 280.0;
/// Left and right ends of the x axis.
const X: Range<f64> = 50.0..386.0;
/// Lower and upper ends of the y axis.
const Y: Range<f64> = 238.0..14.0;
/// Width of a letter and height of a line, about.
const LETTER: f64 = 6.2;
const LINE: f64 = 13.0;
/// Longest label of a point, in letters.
const LABEL: usize = 22;
/// Most layers whose points are marked.
const MARKED: usize = 16;
/// Patterns of the lines.
const DASHES: [&str; 4] = ["", "6 3", "2 3", "8 3 2 3"];

/// Maps values to places along an axis.
struct Scale {
    values: Range<f64>,
    places: Range<f64>,
    is_log: bool,
}

impl Scale {
    fn place(&self, value: f64) -> f64 {
        let of = |value: f64| if self.is_log { value.log10() } else { value };
        let share = (of(value) - of(self.values.start)) / (of(self.values.end) - of(self.values.start));
        self.places.start + share * (self.places.end - self.places.start)
    }

    /// A logarithmic axis for positive values.
    fn log(values: impl Iterator<Item = f64> + Clone, places: Range<f64>) -> Self {
        let (low, high) = ends(values);
        Self { values: low / 1.6..high * 1.6, places, is_log: true }
    }

    fn linear(values: impl Iterator<Item = f64> + Clone, places: Range<f64>) -> Self {
        let (low, high) = ends(values);
        let margin = if high > low { (high - low) * 0.08 } else { high.abs().max(1e-9) * 0.1 };
        Self { values: low - margin..high + margin, places, is_log: false }
    }

    /// Round values along a logarithmic axis, at most about seven.
    fn log_ticks(&self) -> Vec<f64> {
        let powers = self.values.start.log10().floor() as i32..=self.values.end.log10().ceil() as i32;
        let ticks = |digits: &[f64], step: usize| -> Vec<f64> {
            let all = powers.clone().step_by(step);
            let all = all.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
            all.filter(|tick| (self.values.start..=self.values.end).contains(tick)).collect()
        };
        let all = [ticks(&[1.0, 2.0, 5.0], 1), ticks(&[1.0, 3.0], 1), ticks(&[1.0], 1)];
        all.into_iter().find(|ticks| ticks.len() <= 7).unwrap_or_else(|| ticks(&[1.0], 3))
    }

    /// Round values along a linear axis, at most six, and their distance.
    fn linear_ticks(&self) -> (Vec<f64>, f64) {
        let rough = (self.values.end - self.values.start) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let first = (self.values.start / step).ceil() as i64;
        let last = (self.values.end / step).floor() as i64;
        ((first..=last).map(|i| i as f64 * step).collect(), step)
    }
}

fn ends(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
}

/// The mark of a file, `[x, y]` its middle.
fn mark(series: usize, [x, y]: [f64; 2]) -> String {
    let path = match series % 5 {
        0 => {
            return format!(
                "<circle class=\"dot c{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"/>",
                series % COLOURS
            );
        }
        1 => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
        2 => format!("M{x:.1} {:.1}l4.6 8h-9.2z", y - 5.0),
        3 => format!("M{x:.1} {:.1}l5 5l-5 5l-5 -5z", y - 5.0),
        _ => format!("M{x:.1} {:.1}l4.6 -8h-9.2z", y + 5.0),
    };
    format!("<path class=\"dot c{}\" d=\"{path}\"/>", series % COLOURS)
}

fn line(series: usize, path: &str) -> String {
    let (colour, dash) = (series % COLOURS, DASHES[series % DASHES.len()]);
    format!("<path class=\"line c{colour}\" stroke-dasharray=\"{dash}\" d=\"{path}\"/>")
        .replace(" stroke-dasharray=\"\"", "")
}

/// The line and mark of a file, for tables.
pub(super) fn key(series: usize) -> String {
    format!(
        "<svg class=\"key\" width=\"30\" height=\"12\" viewBox=\"0 0 30 12\" aria-hidden=\"true\">{}{}</svg>",
        line(series, "M0 6H30"),
        mark(series, [15.0, 6.0])
    )
}

/// A chart as it is drawn; what comes later covers what was before.
struct Chart {
    svg: String,
}

impl Chart {
    fn new(title: &str) -> Self {
        let title = escape(title);
        Self {
            svg: format!(
                "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title>"
            ),
        }
    }

    fn add(&mut self, element: &str) {
        self.svg.push_str(element);
        self.svg.push('\n');
    }

    fn text(&mut self, [x, y]: [f64; 2], anchor: &str, text: &str) {
        let text = escape(text);
        let _ = writeln!(self.svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    }

    /// The name of a point, in its colour.
    fn label(&mut self, series: usize, [x, y]: [f64; 2], anchor: &str, text: &str) {
        let (text, colour) = (escape(text), series % COLOURS);
        let class = format!("label c{colour}");
        let _ = writeln!(
            self.svg,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// Ticks and the title of the x axis.
    fn x_axis(&mut self, ticks: impl Iterator<Item = (f64, String)>, title: &str) {
        self.add(&format!("<path class=\"axis\" d=\"M{} {}H{}\"/>", X.start, Y.start, X.end));
        for (x, label) in ticks {
            self.add(&format!("<path class=\"axis\" d=\"M{x:.1} {}v4\"/>", Y.start));
            self.text([x, Y.start + 16.0], "middle", &label);
        }
        self.text([(X.start + X.end) / 2.0, HEIGHT - 8.0], "middle", title);
    }

    fn y_axis(&mut self, scale: &Scale) {
        for tick in scale.log_ticks() {
            let y = scale.place(tick);
            self.add(&format!("<path class=\"grid\" d=\"M{} {y:.1}H{}\"/>", X.start, X.end));
            self.text([X.start - 5.0, y + 4.0], "end", &significant(tick, 1));
        }
    }

    fn finish(self) -> String {
        self.svg + "</svg>\n"
    }
}

/// A rectangle that is taken: left, top, right, bottom.
type Taken = [f64; 4];

fn overlap(a: &Taken, b: &Taken) -> bool {
    a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3]
}

/// Where the label of a point may be: `[x, y]` of the text, its anchor and what it takes; the best first.
fn label_places([x, y]: [f64; 2], width: f64) -> Vec<([f64; 2], &'static str, Taken)> {
    let mut places = Vec::new();
    for lines in [0.0, 1.0, -1.0, 2.0, -2.0, 3.0, -3.0, 4.0, -4.0] {
        let base = y + 4.0 + lines * LINE;
        let rows = [base - LINE + 3.0, base + 3.0];
        places.push(([x + 9.0, base], "start", [x + 9.0, rows[0], x + 9.0 + width, rows[1]]));
        places.push(([x - 9.0, base], "end", [x - 9.0 - width, rows[0], x - 9.0, rows[1]]));
        if lines != 0.0 {
            places.push(([x, base], "middle", [x - width / 2.0, rows[0], x + width / 2.0, rows[1]]));
        }
    }
    places
}

/// Size against mean divergence, one point for each file; `None` if no file differs from the base.
pub(super) fn sizes(files: &[Compared], names: &[String]) -> Option<String> {
    let shown = files.iter().zip(names).enumerate().filter(|(_, (one, _))| one.summary.mean_kl > KL_FLOOR);
    let mut shown: Vec<_> = shown.collect();
    // From the top down, so that labels that must give way do so in the order of their points.
    shown.sort_by(|a, b| b.1.0.summary.mean_kl.total_cmp(&a.1.0.summary.mean_kl));
    if shown.is_empty() {
        return None;
    }
    let size = |one: &Compared| one.bytes as f64 / 1e6;
    let xs = Scale::linear(shown.iter().map(|(_, (one, _))| size(one)), X);
    let ys = Scale::log(shown.iter().map(|(_, (one, _))| one.summary.mean_kl), Y);
    let mut chart = Chart::new("Size of each file against its mean KL divergence");
    chart.y_axis(&ys);
    let (ticks, step) = xs.linear_ticks();
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    chart.x_axis(
        ticks.iter().map(|tick| (xs.place(*tick), format!("{tick:.decimals$}"))),
        "size of the file in MB",
    );
    let at = |one: &Compared| [xs.place(size(one)), ys.place(one.summary.mean_kl)];
    let mut taken: Vec<Taken> = shown
        .iter()
        .map(|(_, (one, _))| at(one))
        .map(|[x, y]| [x - 5.0, y - 5.0, x + 5.0, y + 5.0])
        .collect();
    for (series, (one, name)) in &shown {
        let label = shorten(name, LABEL);
        let point @ [x, y] = at(one);
        let places = label_places(point, label.chars().count() as f64 * LETTER);
        let inside = |place: &&([f64; 2], &str, Taken)| {
            place.2[0] >= X.start && place.2[2] <= WIDTH && place.2[1] >= 0.0 && place.2[3] <= Y.start
        };
        let free =
            places.iter().filter(inside).find(|place| !taken.iter().any(|other| overlap(&place.2, other)));
        let Some((text, anchor, area)) = free.or_else(|| places.iter().find(inside)).or(places.first())
        else {
            continue;
        };
        taken.push(*area);
        if (text[1] - y - 4.0).abs() > 0.5 * LINE {
            chart.add(&format!(
                "<path class=\"grid\" d=\"M{x:.1} {y:.1}L{:.1} {:.1}\"/>",
                text[0],
                text[1] - 4.0
            ));
        }
        chart.add(&mark(*series, point));
        chart.label(*series, *text, anchor, &label);
    }
    Some(chart.finish())
}

/// The error of the residual stream after the embedding and after each layer, one line for each file; `None` if there
/// are none.
pub(super) fn layers(files: &[Compared]) -> Option<String> {
    let errors = |one: &Compared| -> Vec<(usize, f64)> {
        let all = [one.embedding_error].into_iter().chain(one.layer_errors.iter().copied());
        all.enumerate().filter(|(_, error)| *error > 0.0).collect()
    };
    let count = files.first()?.layer_errors.len();
    let all: Vec<f64> = files.iter().flat_map(errors).map(|(_, error)| error).collect();
    if all.is_empty() || count == 0 {
        return None;
    }
    let ys = Scale::log(all.iter().copied(), Y);
    let xs = Scale { values: 0.0..count as f64, places: X.start + 14.0..X.end, is_log: false };
    let mut chart = Chart::new("Error of the residual stream by layer");
    chart.y_axis(&ys);
    let ticks = some_layers(count, 8).into_iter().map(|layer| (layer + 1, layer.to_string()));
    let ticks =
        std::iter::once((0, "emb.".to_owned())).chain(ticks.filter(|(step, _)| count < 9 || *step > 1));
    chart.x_axis(ticks.map(|(step, label)| (xs.place(step as f64), label)), "layer");
    for (series, one) in files.iter().enumerate() {
        let points: Vec<[f64; 2]> =
            errors(one).iter().map(|(step, error)| [xs.place(*step as f64), ys.place(*error)]).collect();
        let path: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1} {y:.1}")).collect();
        chart.add(&line(series, &format!("M{}", path.join("L"))));
        let last = points.len().saturating_sub(1);
        for (i, point) in points.iter().enumerate() {
            if count <= MARKED || i == 0 || i == last {
                chart.add(&mark(series, *point));
            }
        }
    }
    Some(chart.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_on_the_axis() {
        let scale = Scale::log([0.0003, 0.02].into_iter(), Y);
        assert_eq!(
            scale.log_ticks().iter().map(|t| significant(*t, 1)).collect::<Vec<_>>(),
            ["0.0002", "0.0005", "0.001", "0.002", "0.005", "0.01", "0.02"]
        );
        let wide = Scale::log([1e-9, 1.0].into_iter(), Y);
        assert!((2..=7).contains(&wide.log_ticks().len()), "{:?}", wide.log_ticks());
        let one = Scale::log([0.007].into_iter(), Y);
        assert!(!one.log_ticks().is_empty());
        let (ticks, step) = Scale::linear([5.877, 8.614].into_iter(), X).linear_ticks();
        assert_eq!((ticks, step), (vec![6.0, 7.0, 8.0], 1.0));
        let (ticks, _) = Scale::linear([5.877].into_iter(), X).linear_ticks();
        assert!((2..=6).contains(&ticks.len()), "{ticks:?}");
    }

    #[test]
    fn places_are_within_the_axes() {
        let scale = Scale::log([0.001, 0.1].into_iter(), Y);
        let middle = (Y.start + Y.end) / 2.0;
        assert!((scale.place(0.01) - middle).abs() < 1e-9);
        assert!(scale.place(0.001) < Y.start && scale.place(0.1) > Y.end);
    }

    #[test]
    fn places_for_labels_do_not_cover_the_point() {
        for (_, _, area) in label_places([100.0, 100.0], 60.0) {
            assert!(!overlap(&area, &[98.0, 98.0, 102.0, 102.0]), "{area:?}");
        }
    }
}
