//! The time of day as manifests write it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the time now, to the second: `2025-03-09T17:04:05Z`.
pub fn now_utc() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    utc(seconds)
}

/// # Source
/// The day's date: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`, for years from
/// 1970 on.
fn utc(seconds: u64) -> String {
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Years begin in March here, so that the leap day is their last.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Reads such a time: seconds since 1970. Nothing where the text has another form.
///
/// # Source
/// `days_from_civil` of the same page.
pub fn seconds_of(text: &str) -> Option<u64> {
    let numbers: Vec<u64> =
        text.strip_suffix('Z')?.split(['-', 'T', ':']).map(str::parse).collect::<Result<_, _>>().ok()?;
    let [year, month, day, hour, minute, second] = numbers.try_into().ok()?;
    let is_date = (1970..10_000).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let from_march = (month + 9) % 12;
    let (era, year_of_era, day_of_year) = (year / 400, year % 400, (153 * from_march + 2) / 5 + day - 1);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_around_leap_years_have_their_dates() {
        let days = [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (1_741_539_845, "2025-03-09T17:04:05Z"),
        ];
        for (seconds, text) in days {
            assert_eq!((utc(seconds).as_str(), seconds_of(text)), (text, Some(seconds)));
        }
        for text in ["", "2025-03-09", "2025-13-09T17:04:05Z", "2025-03-09T17:04:05", "1-1-1T0:0:0Z", "a-b-cTd:e:fZ"] {
            assert_eq!(seconds_of(text), None, "{text}");
        }
    }
}
