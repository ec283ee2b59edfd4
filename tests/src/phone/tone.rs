//! Tones: what a phone of the harness plays, and whether what another one recorded has it. Pure; 8,000 samples a
//! second, one channel, as G.711 has them.

use std::f64::consts::TAU;

/// Samples a second.
pub const RATE: u32 = 8000;

/// The part of the energy from which on a recording has a tone: G.711 and a few lost packets leave far more than this.
const ENOUGH: f64 = 0.4;
/// Mean square below which a recording is silence.
const SILENCE: f64 = 10_000.0;

/// So many samples of a sine of this frequency in Hz, from this sample on.
pub fn sine(frequency: u32, first: u64, count: usize) -> Vec<i16> {
    let step = TAU * f64::from(frequency) / f64::from(RATE);
    // The phase is that of the sample in its second, so that it stays exact however long it lasts.
    let sample = |index: u64| 8000.0 * (step * (index % u64::from(RATE)) as f64).sin();
    (first..).take(count).map(|index| sample(index) as i16).collect()
}

/// Whether these samples have a tone of this frequency: for the most part, and not next to nothing.
pub fn has(samples: &[i16], frequency: u32) -> bool {
    let energy: f64 = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum();
    energy > SILENCE * samples.len() as f64 && part(samples, frequency) > ENOUGH
}

/// The part of the energy, 0 to 1, at this frequency (Goertzel's algorithm in blocks of 50 ms, so that a gap or a jump
/// between two blocks costs one of them).
pub fn part(samples: &[i16], frequency: u32) -> f64 {
    const BLOCK: usize = RATE as usize / 20;
    let (mut found, mut energy) = (0.0, 0.0);
    for block in samples.chunks_exact(BLOCK) {
        let factor = 2.0 * (TAU * f64::from(frequency) / f64::from(RATE)).cos();
        let (mut last, mut before) = (0.0, 0.0);
        for sample in block {
            (last, before) = (f64::from(*sample) + factor * last - before, last);
        }
        found += 2.0 * (last * last + before * before - factor * last * before) / BLOCK as f64;
        energy += block.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>();
    }
    if energy == 0.0 { 0.0 } else { found / energy }
}

/// A WAV file of 16-bit samples.
pub fn wav(samples: &[i16]) -> Vec<u8> {
    let size = samples.len() as u32 * 2;
    let mut bytes = Vec::with_capacity(44 + size as usize);
    bytes.extend_from_slice(b"RIFF");
    bytes.extend_from_slice(&(36 + size).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt ");
    bytes.extend_from_slice(&16u32.to_le_bytes());
    // PCM, one channel.
    bytes.extend_from_slice(&[1, 0, 1, 0]);
    bytes.extend_from_slice(&RATE.to_le_bytes());
    bytes.extend_from_slice(&(RATE * 2).to_le_bytes());
    bytes.extend_from_slice(&[2, 0, 16, 0]);
    bytes.extend_from_slice(b"data");
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
    bytes
}

/// The samples of such a file, of one that is being written as well: what its header says of its length is not asked.
pub fn of_wav(bytes: &[u8]) -> Vec<i16> {
    let start = bytes.windows(4).position(|word| word == b"data").map_or(bytes.len(), |place| place + 8);
    let data = bytes.get(start..).unwrap_or_default();
    data.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect()
}

/// A sample as a byte of PCMU (ITU-T G.711).
pub fn to_pcmu(sample: i16) -> u8 {
    const BIAS: i32 = 0x84;
    let sign = if sample < 0 { 0x80 } else { 0 };
    let magnitude = (i32::from(sample).abs().min(32_635) + BIAS) as u32;
    let exponent = 24 - magnitude.leading_zeros();
    let mantissa = (magnitude >> (exponent + 3)) & 0x0f;
    !(sign | (exponent << 4) as u8 | mantissa as u8)
}

/// The sample that a byte of PCMU stands for.
pub fn of_pcmu(byte: u8) -> i16 {
    let byte = !byte;
    let (exponent, mantissa) = (i32::from(byte >> 4 & 7), i32::from(byte & 0x0f));
    let magnitude = (((mantissa << 3) + 0x84) << exponent) - 0x84;
    if byte & 0x80 == 0 { magnitude as i16 } else { -magnitude as i16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_is_found_and_another_is_not() {
        let samples = sine(440, 0, 8000);
        assert!(has(&samples, 440) && part(&samples, 440) > 0.95, "{}", part(&samples, 440));
        for other in [700, 400, 480, 880, 1000] {
            assert!(!has(&samples, other), "{other}: {}", part(&samples, other));
        }
        assert!(!has(&[0; 8000], 440));
        assert!(!has(&[], 440));
    }

    #[test]
    fn a_tone_is_found_beside_another_of_the_same_strength_and_across_gaps() {
        let both: Vec<i16> =
            sine(440, 0, 8000).iter().zip(sine(700, 0, 8000)).map(|(a, b)| (a / 2) + (b / 2)).collect();
        assert!(has(&both, 440) && has(&both, 700) && !has(&both, 600));
        let gaps: Vec<i16> = (0..20).flat_map(|piece| sine(440, piece * 1234, 800)).collect();
        assert!(has(&gaps, 440), "{}", part(&gaps, 440));
    }

    #[test]
    fn pcmu_and_back_is_nearly_the_same() {
        for sample in (-32_000..32_000).step_by(37) {
            let back = of_pcmu(to_pcmu(sample));
            assert!(
                (i32::from(back) - i32::from(sample)).abs() <= 16 + i32::from(sample).abs() / 16,
                "{sample} {back}"
            );
        }
        assert_eq!((to_pcmu(0), of_pcmu(0xff), of_pcmu(0x80)), (0xff, 0, 32_124));
        let coded: Vec<i16> = sine(700, 0, 8000).into_iter().map(|sample| of_pcmu(to_pcmu(sample))).collect();
        assert!(has(&coded, 700) && !has(&coded, 440));
    }

    #[test]
    fn a_wav_file_holds_its_samples_before_its_header_knows() {
        let samples = sine(440, 0, 100);
        let mut file = wav(&samples);
        assert_eq!(of_wav(&file), samples);
        file[40..44].fill(0);
        assert_eq!(of_wav(&file), samples);
    }
}
