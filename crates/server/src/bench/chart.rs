//! Lines over axes, as SVG that needs nothing besides. The colours are those of the page around it. Must not know what is drawn.

use std::fmt::Write as _;

/// The picture, and the room around the lines, in units of its own: it is as wide as the page lets it be, which on a large screen
/// are about as many pixels.
pub(super) const WIDE: f64 = 1_100.0;
/// As wide as two of them beside each other.
pub(super) const HALF: f64 = 540.0;
const HEIGHT: f64 = 250.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 28.0;

/// Where a value is along one side, and what is written there.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to this at least, at even distances.
    pub(super) fn linear(to: f64, label: impl Fn(f64) -> String) -> Self {
        /// Lines at most.
        const TICKS_MAX: f64 = 6.0;
        let to = if to > 0.0 { to } else { 1.0 };
        let power = 10_f64.powf((to / TICKS_MAX).log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| to / step <= TICKS_MAX);
        let step = step.unwrap_or(to);
        let count = (to / step).ceil();
        let mut ticks = Vec::new();
        let mut at = 0.0;
        while at <= count {
            ticks.push((at * step, label(at * step)));
            at += 1.0;
        }
        Self { from: 0.0, to: count * step, is_log: false, ticks }
    }

    /// As [`Axis::linear`], but it ends where the values end.
    pub(super) fn linear_to(to: f64, label: impl Fn(f64) -> String) -> Self {
        let mut axis = Self::linear(to, label);
        axis.to = if to > 0.0 { to } else { 1.0 };
        let end = axis.to;
        axis.ticks.retain(|(value, _)| *value <= end * 1.0001);
        axis
    }

    /// From one positive value to another, each tenfold as wide as the one before.
    pub(super) fn log(from: f64, to: f64, label: impl Fn(f64) -> String) -> Self {
        /// Tenfold ones up to which there are lines in between.
        const FEW: f64 = 3.0;
        let from = if from > 0.0 { from } else { 1.0 };
        let to = to.max(from * 2.0);
        let steps: &[f64] = if (to / from).log10() <= FEW { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let all = || (-9..12).flat_map(|power| steps.iter().map(move |step| step * 10_f64.powi(power)));
        let from = all().rfind(|tick| *tick <= from * 1.0001).unwrap_or(from);
        let to = all().find(|tick| *tick >= to * 0.9999).unwrap_or(to);
        let is_within = |tick: &f64| (from * 0.9999..=to * 1.0001).contains(tick);
        Self {
            from,
            to,
            is_log: true,
            ticks: all().filter(is_within).map(|tick| (tick, label(tick))).collect(),
        }
    }

    /// With these ticks and no others.
    pub(super) fn with_ticks(to: f64, ticks: Vec<(f64, String)>) -> Self {
        Self { from: 0.0, to, is_log: false, ticks }
    }

    /// From 0, where it begins, to 1, where it ends.
    fn share(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.max(self.from) / self.from).ln() / (self.to / self.from).ln()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        share.clamp(0.0, 1.0)
    }
}

/// See the module.
pub(super) struct Chart {
    svg: String,
    width: f64,
    x: Axis,
    y: Axis,
}

impl Chart {
    /// Empty, with its axes. `title` is for those who cannot see it.
    pub(super) fn new(title: &str, width: f64, x: Axis, y: Axis) -> Self {
        let mut svg = format!(
            "<svg viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n",
            super::html::escaped(title)
        );
        let (right, bottom) = (width - RIGHT, HEIGHT - BOTTOM);
        // Writing to a string does not fail.
        for (value, label) in &y.ticks {
            let at = bottom - y.share(*value) * (bottom - TOP);
            let _ = write!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>");
            let _ = writeln!(
                svg,
                "<text class=\"tick end\" x=\"{}\" y=\"{:.1}\">{label}</text>",
                LEFT - 8.0,
                at + 4.0
            );
        }
        for (value, label) in &x.ticks {
            let at = LEFT + x.share(*value) * (right - LEFT);
            let _ = write!(svg, "<path class=\"mark\" d=\"M{at:.1} {bottom}v4\"/>");
            let _ = writeln!(
                svg,
                "<text class=\"tick middle\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
                bottom + 18.0
            );
        }
        Self { svg, width, x, y }
    }

    fn at(&self, x: f64, y: f64) -> (f64, f64) {
        (self.across(x), HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - BOTTOM - TOP))
    }

    fn across(&self, x: f64) -> f64 {
        LEFT + self.x.share(x) * (self.width - RIGHT - LEFT)
    }

    /// A line through the points; a place without a value is a gap.
    pub(super) fn line(&mut self, class: &str, points: &[(f64, Option<f64>)]) {
        let mut path = String::new();
        for run in points.split(|(_, y)| y.is_none()) {
            for (place, (x, y)) in run.iter().enumerate() {
                let (x, y) = self.at(*x, y.unwrap_or(0.0));
                let command = if place == 0 { 'M' } else { 'L' };
                // Writing to a string does not fail.
                let _ = write!(path, "{command}{x:.1} {y:.1}");
                if run.len() == 1 {
                    path.push_str("h.1");
                }
            }
        }
        let _ = writeln!(self.svg, "<path class=\"line {class}\" d=\"{path}\"/>");
    }

    /// What is below the points.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        let (Some((first, _)), Some((last, _))) = (points.first(), points.last()) else { return };
        let bottom = HEIGHT - BOTTOM;
        let mut path = format!("M{:.1} {bottom}", self.across(*first));
        for (x, y) in points {
            let (x, y) = self.at(*x, *y);
            // Writing to a string does not fail.
            let _ = write!(path, "L{x:.1} {y:.1}");
        }
        let _ = writeln!(
            self.svg,
            "<path class=\"area {class}\" d=\"{path}L{:.1} {bottom}Z\"/>",
            self.across(*last)
        );
    }

    /// All of the height, from one place to another.
    pub(super) fn band(&mut self, class: &str, from: f64, to: f64) {
        self.rectangle(class, from, to, "");
    }

    /// What is said where the pointer is.
    pub(super) fn hover(&mut self, from: f64, to: f64, text: &str) {
        self.rectangle("hover", from, to, &format!("<title>{}</title>", super::html::escaped(text)));
    }

    fn rectangle(&mut self, class: &str, from: f64, to: f64, inner: &str) {
        let (from, to) = (self.across(from), self.across(to));
        let (width, height) = ((to - from).max(0.5), HEIGHT - BOTTOM - TOP);
        // Writing to a string does not fail.
        let _ = writeln!(
            self.svg,
            "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" height=\"{height}\">{inner}</rect>"
        );
    }

    /// The picture.
    pub(super) fn finish(mut self) -> String {
        let (right, bottom) = (self.width - RIGHT, HEIGHT - BOTTOM);
        // Writing to a string does not fail.
        let _ = writeln!(self.svg, "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>\n</svg>");
        self.svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn axes_have_round_numbers_and_hold_every_value() {
        let axis = Axis::linear(23_412.0, |value| format!("{value}"));
        assert_eq!(labels(&axis), ["0", "5000", "10000", "15000", "20000", "25000"]);
        assert!((axis.share(12_500.0) - 0.5).abs() < 1e-9);
        assert_eq!(labels(&Axis::linear(0.0, |value| format!("{value}"))).len(), 6);
        let axis = Axis::log(0.3, 40.0, |value| format!("{value:.1}"));
        assert_eq!(labels(&axis), ["0.2", "0.5", "1.0", "2.0", "5.0", "10.0", "20.0", "50.0"]);
        let axis = Axis::log(0.3, 4_000.0, |value| format!("{value:.1}"));
        assert_eq!(labels(&axis), ["0.1", "1.0", "10.0", "100.0", "1000.0", "10000.0"]);
        assert!((axis.share(1_000.0) - 0.8).abs() < 1e-9);
        assert!(axis.share(0.0) >= 0.0 && axis.share(1e9) <= 1.0);
        let axis = Axis::linear_to(12.3, |value| format!("{value}"));
        assert_eq!(labels(&axis).last(), Some(&"10"));
        assert!((axis.share(12.3) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_place_without_a_value_is_a_gap_in_the_line() {
        let axis = || Axis::linear(10.0, |value| value.to_string());
        let mut chart = Chart::new("a & b", HALF, axis(), axis());
        chart.line(
            "x",
            &[(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(3.0)), (4.0, Some(4.0))],
        );
        let svg = chart.finish();
        let line = svg.lines().find(|line| line.contains("line x")).unwrap();
        assert_eq!((line.matches('M').count(), line.matches('L').count()), (2, 2), "{line}");
        assert!(svg.contains("a &amp; b") && svg.ends_with("</svg>\n"));
    }
}
