//! Secrets that nobody can guess.

/// 256 bits from the operating system, in hexadecimal digits.
pub(crate) fn secret() -> Result<String, turnkit::BoxError> {
    let mut bytes = [[0; 16]; 2];
    getrandom::fill(bytes.as_flattened_mut())?;
    Ok(format!("{:032x}{:032x}", u128::from_be_bytes(bytes[0]), u128::from_be_bytes(bytes[1])))
}
