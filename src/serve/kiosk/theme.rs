//! The operator's colours as a style sheet.

use super::fields::{Field, KioskError};

/// The dark page's ground, as in kiosk.css.
const DARK_PAPER: Colour = Colour([0x0e, 0x15, 0x14]);
const WHITE: Colour = Colour([255; 3]);
const BLACK: Colour = Colour([0; 3]);
/// Least contrast of a button with the dark page's ground.
const LEAST_CONTRAST: f64 = 4.5;

/// Red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colour([u8; 3]);

/// The operator's colours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Theme {
    /// Of buttons and marks.
    pub(super) accent: Option<Colour>,
    /// The same where the screen is dark; made of the other where there is none.
    pub(super) accent_dark: Option<Colour>,
}

/// A colour that the file gives.
pub(super) fn colour(field: &Field<'_>) -> Result<Colour, KioskError> {
    let text = field.text()?;
    Colour::parse(&text).ok_or_else(|| field.wrong("a colour such as \"#0b5b60\"", format!("{text:?}")))
}

impl Theme {
    /// The style sheet, which comes after the page's own.
    pub(super) fn css(self) -> String {
        let light = self.accent.map(|accent| format!(":root {{ {} }}\n", accent.properties()));
        let dark = self.accent_dark.or_else(|| self.accent.map(Colour::lit)).map(|accent| {
            format!("@media (prefers-color-scheme: dark) {{ :root {{ {} }} }}\n", accent.properties())
        });
        light.unwrap_or_default() + &dark.unwrap_or_default()
    }
}

impl Colour {
    /// Reads `#rrggbb`.
    fn parse(text: &str) -> Option<Colour> {
        let digits = text.strip_prefix('#')?;
        if digits.len() != 6 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let [_, red, green, blue] = u32::from_str_radix(digits, 16).ok()?.to_be_bytes();
        Some(Colour([red, green, blue]))
    }

    fn show(self) -> String {
        let Colour([red, green, blue]) = self;
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    /// It, and the colour of text on it.
    fn properties(self) -> String {
        let on = if self.contrast(WHITE) >= self.contrast(BLACK) { WHITE } else { BLACK };
        format!("--accent: {}; --accent-text: {};", self.show(), on.show())
    }

    /// The colour, lit as far as it takes to be seen on the dark page.
    fn lit(self) -> Colour {
        let lit = (0..=10).map(|tenths| self.toward_white(tenths));
        lit.into_iter().find(|colour| colour.contrast(DARK_PAPER) >= LEAST_CONTRAST).unwrap_or(WHITE)
    }

    fn toward_white(self, tenths: u8) -> Colour {
        Colour(self.0.map(|part| part + ((255 - u16::from(part)) * u16::from(tenths) / 10) as u8))
    }

    /// The relative luminance of WCAG 2.2.
    fn luminance(self) -> f64 {
        let [red, green, blue] = self.0.map(|part| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// The contrast ratio of WCAG 2.2, from 1 to 21.
    fn contrast(self, other: Colour) -> f64 {
        let (one, two) = (self.luminance(), other.luminance());
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read_and_shown() {
        assert_eq!(Colour::parse("#0B5b60").map(Colour::show).as_deref(), Some("#0b5b60"));
        for wrong in ["", "0b5b60", "#0b5b6", "#0b5b600", "#0b5b6g", "#+b5b60", "#0b5b6é", "red", "# 00000"]
        {
            assert_eq!(Colour::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn contrast_is_that_of_the_standard() {
        assert!((WHITE.contrast(BLACK) - 21.0).abs() < 1e-9);
        // The grey that is known as the lightest with 4.5 on white.
        let grey = Colour([0x76; 3]).contrast(WHITE);
        assert!((4.5..4.6).contains(&grey), "{grey}");
    }

    #[test]
    fn text_on_any_colour_can_be_read() {
        for red in (0..=255).step_by(17) {
            for green in (0..=255).step_by(17) {
                for blue in (0..=255).step_by(17) {
                    let colour = Colour([red, green, blue]);
                    let css = colour.properties();
                    let on = if css.contains("--accent-text: #ffffff") { WHITE } else { BLACK };
                    assert!(colour.contrast(on) >= 4.5, "{css}");
                    assert!(colour.lit().contrast(DARK_PAPER) >= LEAST_CONTRAST, "{css}");
                }
            }
        }
    }

    #[test]
    fn the_style_sheet_has_what_was_given() {
        let [accent, dark] = ["#102030", "#ffee88"].map(Colour::parse);
        assert_eq!(Theme::default().css(), "");
        let css = Theme { accent, accent_dark: dark }.css();
        let expected = ":root { --accent: #102030; --accent-text: #ffffff; }\n\
            @media (prefers-color-scheme: dark) { :root { --accent: #ffee88; --accent-text: #000000; } }\n";
        assert_eq!(css, expected);
        let made = Theme { accent, accent_dark: None }.css();
        assert!(made.contains("dark") && made.matches("#102030").count() == 1, "{made}");
        assert!(!Theme { accent: None, accent_dark: dark }.css().starts_with(":root"));
    }

    #[test]
    fn the_dark_ground_is_the_pages() {
        let css = include_str!("../page/kiosk.css");
        let (_, dark) = css.split_once("@media (prefers-color-scheme: dark)").unwrap();
        assert!(
            dark.trim_start().trim_start_matches('{').contains(&format!("--paper: {};", DARK_PAPER.show()))
        );
    }
}
