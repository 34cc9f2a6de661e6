//! Command lines as the GNU tools read them: short options in clusters, long ones that may be abbreviated,
//! operands anywhere between them, `--` before operands that begin with a dash.

use alloc::vec::Vec;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Takes {
    Nothing,
    Argument,
    MaybeArgument,
}

/// One option: its letter (0 if none), its long name ("" if none), and what the program calls it.
pub struct Choice<T: Copy + 'static> {
    pub letter: u8,
    pub name: &'static str,
    pub takes: Takes,
    pub meaning: T,
}

pub const fn choice<T: Copy>(letter: u8, name: &'static str, takes: Takes, meaning: T) -> Choice<T> {
    Choice { letter, name, takes, meaning }
}

/// What a command line says, options and operands each in their order.
pub struct Parsed<'a, T> {
    pub options: Vec<(T, Option<&'a [u8]>)>,
    pub operands: Vec<&'a [u8]>,
}

/// Reads the arguments after the program's name. The error is the message without that name.
pub fn parse<'a, T: Copy + PartialEq>(choices: &[Choice<T>], arguments: &[&'a [u8]]) -> Result<Parsed<'a, T>, Vec<u8>> {
    let mut parsed = Parsed { options: Vec::new(), operands: Vec::new() };
    let mut rest = arguments.iter().copied();
    while let Some(word) = rest.next() {
        if word == b"--" {
            parsed.operands.extend(rest);
            break;
        }
        if word.starts_with(b"--") {
            parsed.options.push(long_option(choices, &word[2..], &mut rest)?);
        } else if word.len() > 1 && word[0] == b'-' {
            short_options(choices, &word[1..], &mut rest, &mut parsed.options)?;
        } else {
            parsed.operands.push(word);
        }
    }
    Ok(parsed)
}

type Found<'a, T> = (T, Option<&'a [u8]>);

fn long_option<'a, T: Copy + PartialEq>(
    choices: &[Choice<T>],
    word: &'a [u8],
    rest: &mut dyn Iterator<Item = &'a [u8]>,
) -> Result<Found<'a, T>, Vec<u8>> {
    let equals = word.iter().position(|&byte| byte == b'=');
    let name = &word[..equals.unwrap_or(word.len())];
    let given = equals.map(|at| &word[at + 1..]);
    let exact = choices.iter().find(|choice| !choice.name.is_empty() && choice.name.as_bytes() == name);
    let chosen = match exact {
        Some(choice) => choice,
        None => abbreviated(choices, name, word)?,
    };
    let full = chosen.name.as_bytes();
    match (chosen.takes, given) {
        (Takes::Nothing, Some(_)) => Err([b"option '--", full, b"' doesn't allow an argument"].concat()),
        (Takes::Argument, None) => match rest.next() {
            Some(argument) => Ok((chosen.meaning, Some(argument))),
            None => Err([b"option '--", full, b"' requires an argument"].concat()),
        },
        _ => Ok((chosen.meaning, given)),
    }
}

fn abbreviated<'c, T: Copy + PartialEq>(
    choices: &'c [Choice<T>],
    name: &[u8],
    word: &[u8],
) -> Result<&'c Choice<T>, Vec<u8>> {
    let matching: Vec<&Choice<T>> =
        choices.iter().filter(|choice| !choice.name.is_empty() && choice.name.as_bytes().starts_with(name)).collect();
    let first = match matching.first() {
        Some(first) => *first,
        None => return Err([b"unrecognized option '--", word, b"'"].concat()),
    };
    if matching.iter().all(|choice| choice.meaning == first.meaning) {
        return Ok(first);
    }
    let mut message = [b"option '--", word, b"' is ambiguous; possibilities:"].concat();
    for choice in matching {
        message.extend_from_slice(b" '--");
        message.extend_from_slice(choice.name.as_bytes());
        message.push(b'\'');
    }
    Err(message)
}

fn short_options<'a, T: Copy>(
    choices: &[Choice<T>],
    cluster: &'a [u8],
    rest: &mut dyn Iterator<Item = &'a [u8]>,
    options: &mut Vec<Found<'a, T>>,
) -> Result<(), Vec<u8>> {
    for (index, &letter) in cluster.iter().enumerate() {
        let chosen = match choices.iter().find(|choice| choice.letter == letter && letter != 0) {
            Some(choice) => choice,
            None => return Err([b"invalid option -- '", &[letter][..], b"'"].concat()),
        };
        let attached = &cluster[index + 1..];
        match chosen.takes {
            Takes::Nothing => options.push((chosen.meaning, None)),
            Takes::MaybeArgument => {
                options.push((chosen.meaning, if attached.is_empty() { None } else { Some(attached) }));
                return Ok(());
            }
            Takes::Argument => {
                let argument = if attached.is_empty() { rest.next() } else { Some(attached) };
                match argument {
                    Some(argument) => options.push((chosen.meaning, Some(argument))),
                    None => return Err([b"option requires an argument -- '", &[letter][..], b"'"].concat()),
                }
                return Ok(());
            }
        }
    }
    Ok(())
}
