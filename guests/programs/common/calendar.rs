//! Dates in UTC.

use super::numbers;
use super::system::Time;
use alloc::vec::Vec;

/// A moment taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// 0 is Sunday.
    pub weekday: u32,
    /// 1 to 366.
    pub day_of_year: u32,
}

pub const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
pub const WEEKDAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

const SECONDS_PER_DAY: i64 = 86_400;
const DAYS_PER_ERA: i64 = 146_097; // 400 years
const DAYS_TO_1970: i64 = 719_468; // from the 1st of March of the year 0

/// The date of a second since 1970, in the proleptic Gregorian calendar.
///
/// Years are counted from March, so that a leap day is the last day of its year
/// (the algorithm is described in "chrono-Compatible Low-Level Date Algorithms", H. Hinnant).
pub fn civil(seconds: i64) -> Civil {
    let days = seconds.div_euclid(SECONDS_PER_DAY);
    let of_day = seconds.rem_euclid(SECONDS_PER_DAY) as u32;
    let shifted = days + DAYS_TO_1970;
    let era = shifted.div_euclid(DAYS_PER_ERA);
    let day_of_era = shifted.rem_euclid(DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_march_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_march_year + 2) / 153;
    let day = (day_of_march_year - (153 * march_month + 2) / 5 + 1) as u32;
    let month = (if march_month < 10 { march_month + 3 } else { march_month - 9 }) as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    Civil {
        year,
        month,
        day,
        hour: of_day / 3600,
        minute: of_day / 60 % 60,
        second: of_day % 60,
        weekday: (days + 4).rem_euclid(7) as u32, // the 1st of January 1970 was a Thursday
        day_of_year: day_of_year(year, month, day),
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn day_of_year(year: i64, month: u32, day: u32) -> u32 {
    const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    BEFORE[month as usize - 1] + day + u32::from(month > 2 && is_leap(year))
}

/// Appends `value` with leading zeros up to `width`.
pub fn zero_padded(output: &mut Vec<u8>, value: u64, width: usize) {
    padded(output, value, width, b'0');
}

fn padded(output: &mut Vec<u8>, value: u64, width: usize, fill: u8) {
    let text = numbers::decimal_text(value);
    for _ in text.len()..width {
        output.push(fill);
    }
    output.extend_from_slice(&text);
}

/// Appends a moment in the given `strftime` format, extended by `%N` (nanoseconds), in UTC and the C locale.
/// A directive that is not known is copied as it stands, as the C library does.
pub fn format(output: &mut Vec<u8>, time: Time, pattern: &[u8]) {
    let date = civil(time.seconds);
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            output.push(byte);
            continue;
        }
        let mut fill = None;
        while let Some((&flag, after)) = rest.split_first() {
            fill = match flag {
                b'-' => Some(None),
                b'_' => Some(Some(b' ')),
                b'0' => Some(Some(b'0')),
                _ => break,
            };
            rest = after;
        }
        let directive = match rest.split_first() {
            Some((&directive, after)) => {
                rest = after;
                directive
            }
            None => {
                output.push(b'%');
                break;
            }
        };
        conversion(output, time, &date, directive, fill);
    }
}

/// `fill`: None for the directive's own padding, Some(None) for no padding.
fn conversion(output: &mut Vec<u8>, time: Time, date: &Civil, directive: u8, fill: Option<Option<u8>>) {
    let number = |output: &mut Vec<u8>, value: u32, width: usize, usual: u8| {
        let value = u64::from(value);
        match fill.unwrap_or(Some(usual)) {
            None => numbers::decimal(output, value),
            Some(byte) => padded(output, value, width, byte),
        }
    };
    let hour12 = (date.hour + 11) % 12 + 1;
    match directive {
        b'%' => output.push(b'%'),
        b'n' => output.push(b'\n'),
        b't' => output.push(b'\t'),
        b'Y' => year(output, date.year),
        b'C' => number(output, date.year.div_euclid(100) as u32, 2, b'0'),
        b'y' => number(output, date.year.rem_euclid(100) as u32, 2, b'0'),
        b'm' => number(output, date.month, 2, b'0'),
        b'd' => number(output, date.day, 2, b'0'),
        b'e' => number(output, date.day, 2, b' '),
        b'j' => number(output, date.day_of_year, 3, b'0'),
        b'H' => number(output, date.hour, 2, b'0'),
        b'k' => number(output, date.hour, 2, b' '),
        b'I' => number(output, hour12, 2, b'0'),
        b'l' => number(output, hour12, 2, b' '),
        b'M' => number(output, date.minute, 2, b'0'),
        b'S' => number(output, date.second, 2, b'0'),
        b'N' => {
            number(output, time.nanoseconds, 9, b'0');
            // Digits of a fraction: those that say nothing stand at its end.
            while fill == Some(None) && time.nanoseconds != 0 && output.last() == Some(&b'0') {
                output.pop();
            }
        }
        b's' => numbers::signed(output, time.seconds),
        b'p' => output.extend_from_slice(if date.hour < 12 { b"AM" } else { b"PM" }),
        b'u' => number(output, (date.weekday + 6) % 7 + 1, 1, b'0'),
        b'w' => number(output, date.weekday, 1, b'0'),
        b'a' => output.extend_from_slice(&WEEKDAYS[date.weekday as usize].as_bytes()[..3]),
        b'A' => output.extend_from_slice(WEEKDAYS[date.weekday as usize].as_bytes()),
        b'b' | b'h' => output.extend_from_slice(&MONTHS[date.month as usize - 1].as_bytes()[..3]),
        b'B' => output.extend_from_slice(MONTHS[date.month as usize - 1].as_bytes()),
        b'F' => format(output, time, b"%Y-%m-%d"),
        b'T' => format(output, time, b"%H:%M:%S"),
        b'R' => format(output, time, b"%H:%M"),
        b'D' | b'x' => format(output, time, b"%m/%d/%y"),
        b'X' => format(output, time, b"%H:%M:%S"),
        b'r' => format(output, time, b"%I:%M:%S %p"),
        b'c' => format(output, time, b"%a %b %e %H:%M:%S %Y"),
        b'z' => output.extend_from_slice(b"+0000"),
        b'Z' => output.extend_from_slice(b"UTC"),
        other => {
            output.push(b'%');
            output.push(other);
        }
    }
}

/// Years have four digits at least; those before 0 a sign.
fn year(output: &mut Vec<u8>, year: i64) {
    if year < 0 {
        output.push(b'-');
    }
    zero_padded(output, year.unsigned_abs(), if year < 0 { 3 } else { 4 });
}
