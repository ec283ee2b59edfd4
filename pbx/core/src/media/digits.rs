//! Digits as telephone events (RFC 4733) in the stream that goes to a phone, and the numbers of that stream: what is
//! put between two packets moves the sequence numbers of all that follow. After the latch, before the socket.

use std::{collections::VecDeque, time::Duration};

use crate::{
    moment::Moment,
    wire::rtp::{HEADER, Header},
};

/// Between two packets of an event (RFC 4733 §2.5.1.2 leaves it to us; as long as a packet of audio, usually).
pub const STEP: Duration = Duration::from_millis(20);
/// How often the end of an event is said (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;
/// The shortest tone that everybody hears (Q.24), and what is made of anything shorter.
const SHORTEST: Duration = Duration::from_millis(40);
/// The longest.
const LONGEST: Duration = Duration::from_secs(6);
/// Between two digits.
const PAUSE: Duration = Duration::from_millis(60);
/// Digits that wait at most.
const MOST: usize = 64;
/// Volume of the tone, in dBm0 below 0.
const VOLUME: u8 = 10;

/// A packet of an event: RTP header and payload.
pub type EventPacket = [u8; HEADER + 4];

/// The stream to one phone.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The last packet that went out.
    last: Last,
    /// What is added to sequence numbers of the stream that is passed on.
    offset: u16,
    /// A stream of the peer's is passed on.
    follows: bool,
    waiting: VecDeque<Press>,
    playing: Option<Playing>,
    /// No digit begins before.
    free: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    at: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Press {
    event: u8,
    duration: Duration,
    payload_type: u8,
    rate: u32,
}

#[derive(Clone, Copy, Debug)]
struct Playing {
    press: Press,
    timestamp: u32,
    begun: Moment,
    next: Moment,
    first: bool,
    /// How often the end was said.
    ends: u8,
}

impl Outgoing {
    /// A stream to which nothing was sent. `random` names it if digits come before anything else (RFC 3550 §5.1):
    /// unlike that of any other.
    pub const fn new(random: u64, now: Moment) -> Self {
        let last =
            Last { ssrc: random as u32, sequence: (random >> 32) as u16, timestamp: (random >> 48) as u32, at: now };
        Self { last, offset: 0, follows: false, waiting: VecDeque::new(), playing: None, free: now }
    }

    /// The sequence number that a packet of the peer's stream goes out with.
    pub fn pass(&mut self, header: &Header, now: Moment) -> u16 {
        if !self.follows || header.ssrc != self.last.ssrc {
            // Another stream, which begins wherever it likes.
            self.follows = true;
            self.offset = 0;
            let Header { ssrc, sequence, timestamp, .. } = *header;
            self.last = Last { ssrc, sequence, timestamp, at: now };
            return sequence;
        }
        let sequence = header.sequence.wrapping_add(self.offset);
        // One that was overtaken is not the last.
        if sequence.wrapping_sub(self.last.sequence) < 1 << 15 {
            self.last = Last { sequence, timestamp: header.timestamp, at: now, ..self.last };
        }
        sequence
    }

    /// Sends a digit when those before it are sent, as an event of this payload type and clock. `false`: it is no digit,
    /// the clock is 0, or too many wait.
    pub fn press(&mut self, digit: char, duration: Duration, (payload_type, rate): (u8, u32), now: Moment) -> bool {
        // The duration has 16 bits.
        let longest =
            Duration::from_secs(u64::from(u16::MAX)).checked_div(rate).map_or(Duration::ZERO, |at| at.min(LONGEST));
        let (Some(event), true) = (event(digit), self.waiting.len() < MOST && longest >= SHORTEST) else {
            return false;
        };
        self.waiting.push_back(Press { event, duration: duration.clamp(SHORTEST, longest), payload_type, rate });
        if self.playing.is_none() {
            self.begin(now.max(self.free));
        }
        true
    }

    /// When [`due`](Self::due) has something to send; none: never.
    pub fn next(&self) -> Option<Moment> {
        self.playing.map(|playing| playing.next)
    }

    /// The packet that is to be sent now, one at a time.
    pub fn due(&mut self, now: Moment) -> Option<EventPacket> {
        let mut playing = self.playing.filter(|playing| playing.next <= now)?;
        let Press { event, duration, payload_type, rate } = playing.press;
        if playing.first {
            // The stream goes on meanwhile; its clock is taken for the event's, which are the same but for odd phones.
            playing.begun = now;
            playing.timestamp = self.last.timestamp.wrapping_add(units(now.since(self.last.at), rate));
        }
        let lasted = (now.since(playing.begun) + STEP).min(duration);
        let ended = lasted == duration;
        let sequence = self.last.sequence.wrapping_add(1);
        self.offset = self.offset.wrapping_add(1);
        let (timestamp, ssrc) = (playing.timestamp, self.last.ssrc);
        let header =
            Header { marker: playing.first, payload_type, sequence, timestamp, ssrc, payload: HEADER..HEADER + 4 };
        let mut packet = [0; HEADER + 4];
        packet[..HEADER].copy_from_slice(&header.write());
        packet[HEADER] = event;
        packet[HEADER + 1] = u8::from(ended) << 7 | VOLUME;
        packet[HEADER + 2..].copy_from_slice(&(units(lasted, rate) as u16).to_be_bytes());

        // The clock of the stream stands while an event is said.
        self.last.sequence = sequence;
        playing.first = false;
        playing.ends += u8::from(ended);
        playing.next = now + STEP;
        self.playing = Some(playing);
        if playing.ends == ENDS {
            self.playing = None;
            self.free = now + PAUSE;
            self.begin(self.free);
        }
        Some(packet)
    }

    /// No digit is sent any more.
    pub fn silence(&mut self) {
        self.waiting.clear();
        self.playing = None;
    }

    fn begin(&mut self, at: Moment) {
        self.playing = self.waiting.pop_front().map(|press| Playing {
            press,
            timestamp: 0,
            begun: at,
            next: at,
            first: true,
            ends: 0,
        });
    }
}

/// The event of a digit (RFC 4733 §3.2).
pub const fn event(digit: char) -> Option<u8> {
    Some(match digit {
        '0'..='9' => digit as u8 - b'0',
        '*' => 10,
        '#' => 11,
        'A'..='D' => digit as u8 - b'A' + 12,
        'a'..='d' => digit as u8 - b'a' + 12,
        _ => return None,
    })
}

fn units(span: Duration, rate: u32) -> u32 {
    (span.as_micros() * u128::from(rate) / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: (u8, u32) = (101, 8000);

    fn audio(sequence: u16, timestamp: u32) -> Header {
        Header { marker: false, payload_type: 8, sequence, timestamp, ssrc: 7, payload: 12..172 }
    }

    fn ms(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    /// All packets of what was pressed, with the time of each.
    fn played(outgoing: &mut Outgoing) -> Vec<(u64, Header, [u8; 4])> {
        let mut packets = Vec::new();
        while let Some(at) = outgoing.next() {
            let packet = outgoing.due(at).unwrap();
            let header = Header::parse(&packet).unwrap();
            packets.push((at.as_micros() / 1000, header, *packet.last_chunk().unwrap()));
            assert!(packets.len() < 1000);
        }
        packets
    }

    #[test]
    fn a_digit_is_an_event_of_20_ms_steps_whose_end_is_said_three_times() {
        let mut outgoing = Outgoing::new(0, ms(0));
        assert_eq!(outgoing.pass(&audio(100, 16_000), ms(1000)), 100);
        assert!(outgoing.press('#', Duration::from_millis(100), EVENTS, ms(1010)));
        let packets = played(&mut outgoing);
        let seen: Vec<_> = packets
            .iter()
            .map(|(at, header, payload)| {
                assert_eq!((header.payload_type, header.ssrc, header.timestamp, payload[0]), (101, 7, 16_080, 11));
                let duration = u16::from_be_bytes([payload[2], payload[3]]);
                (*at, header.sequence, header.marker, payload[1] >> 7, duration)
            })
            .collect();
        let wanted = [
            (1010, 101, true, 0, 160),
            (1030, 102, false, 0, 320),
            (1050, 103, false, 0, 480),
            (1070, 104, false, 0, 640),
            (1090, 105, false, 1, 800),
            (1110, 106, false, 1, 800),
            (1130, 107, false, 1, 800),
        ];
        assert_eq!(seen, wanted);
        assert_eq!(outgoing.pass(&audio(101, 16_160), ms(1140)), 108, "what follows fits");
        assert_eq!(outgoing.pass(&audio(103, 16_480), ms(1160)), 110, "and shows what is missing");
        assert_eq!(outgoing.pass(&audio(102, 16_320), ms(1161)), 109);
    }

    #[test]
    fn audio_goes_on_between_the_packets_of_an_event() {
        let mut outgoing = Outgoing::new(0, ms(0));
        let mut numbers = vec![outgoing.pass(&audio(65_534, 0), ms(0))];
        outgoing.press('5', Duration::from_millis(40), EVENTS, ms(1));
        for step in 0..4_u16 {
            let now = ms(1 + 20 * u64::from(step));
            numbers.extend(outgoing.due(now).map(|packet| Header::parse(&packet).unwrap().sequence));
            numbers.push(outgoing.pass(&audio(65_535_u16.wrapping_add(step), 160), now));
        }
        let wanted: Vec<u16> = (0..9).map(|index| 65_534_u16.wrapping_add(index)).collect();
        assert_eq!(numbers, wanted);
    }

    #[test]
    fn digits_wait_for_each_other_with_a_pause_and_not_too_many() {
        let mut outgoing = Outgoing::new(0, ms(0));
        outgoing.pass(&audio(1, 0), ms(0));
        for digit in "123".chars() {
            assert!(outgoing.press(digit, Duration::ZERO, EVENTS, ms(0)));
        }
        let packets = played(&mut outgoing);
        let begins: Vec<(u64, u8)> =
            packets.iter().filter(|(_, header, _)| header.marker).map(|(at, _, payload)| (*at, payload[0])).collect();
        assert_eq!(begins, [(0, 1), (120, 2), (240, 3)]);
        assert!(packets.windows(2).all(|two| two[1].1.sequence == two[0].1.sequence + 1));
        assert_eq!(packets[4].1.timestamp, 960, "the time between them passes");
        let taken = (0..100).filter(|_| outgoing.press('1', Duration::ZERO, EVENTS, ms(9000))).count();
        assert_eq!(taken, MOST + 1);
        outgoing.silence();
        assert_eq!(outgoing.next(), None);
    }

    #[test]
    fn what_is_no_digit_or_has_no_clock_is_not_sent() {
        let mut outgoing = Outgoing::new(0, ms(0));
        assert!(!outgoing.press('x', Duration::ZERO, EVENTS, ms(0)));
        assert!(!outgoing.press('1', Duration::ZERO, (101, 0), ms(0)));
        assert!(!outgoing.press('1', Duration::ZERO, (101, 10_000_000), ms(0)));
        assert!(outgoing.press('D', Duration::MAX, (101, 48_000), ms(0)));
        let packets = played(&mut outgoing);
        let durations = packets.iter().map(|(.., payload)| u16::from_be_bytes([payload[2], payload[3]]));
        assert!(durations.is_sorted() && packets[0].2[0] == 15);
    }

    #[test]
    fn before_any_stream_a_digit_has_its_own_source_and_the_stream_then_begins_as_it_is() {
        let mut outgoing = Outgoing::new(0x1234_5678_9abc_def0, ms(0));
        outgoing.press('1', Duration::from_millis(50), EVENTS, ms(5));
        let (_, header, _) = played(&mut outgoing).remove(0);
        assert_eq!((header.ssrc, header.sequence), (0x9abc_def0, 0x5679));
        assert_eq!(outgoing.pass(&audio(40, 1), ms(500)), 40);
        assert_eq!(outgoing.pass(&audio(41, 161), ms(520)), 41);
        // As does another source.
        outgoing.press('1', Duration::from_millis(50), EVENTS, ms(530));
        assert_eq!(played(&mut outgoing)[0].1.sequence, 42);
        assert_eq!(outgoing.pass(&Header { ssrc: 8, ..audio(9, 0) }, ms(900)), 9);
    }
}
