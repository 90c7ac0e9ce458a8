//! A raw client, from the specification alone. It passes no descriptors.

use simdev::{Server, ServerThread};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub struct Client {
    stream: UnixStream,
    number: u16,
}

impl Client {
    /// Behind the handshake.
    pub fn open(server: Server) -> (Client, ServerThread) {
        let (mut client, thread) = Client::raw(server);
        client.agree();
        (client, thread)
    }

    /// In front of it.
    pub fn raw(server: Server) -> (Client, ServerThread) {
        let (stream, thread) = server.connect().unwrap();
        (Client::over(stream), thread)
    }

    pub fn at(path: &Path) -> Client {
        let mut client = Client::over(UnixStream::connect(path).unwrap());
        client.agree();
        client
    }

    fn over(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client { stream, number: 0 }
    }

    fn agree(&mut self) {
        let answer = self.call(1, &[0, 0, 1, 0]).unwrap();
        assert_eq!(answer[..4], [0, 0, 1, 0]);
    }

    fn message(&mut self, command: u16, payload: &[u8]) -> Vec<u8> {
        self.number += 1;
        let size = 16 + payload.len() as u32;
        let head = [self.number.to_ne_bytes(), command.to_ne_bytes()].concat();
        [head, words(&[size, 0, 0]), payload.to_vec()].concat()
    }

    pub fn post(&mut self, command: u16, payload: &[u8]) -> u16 {
        let message = self.message(command, payload);
        self.stream.write_all(&message).unwrap();
        self.number
    }

    /// The payload comes in two pieces, the second after a while.
    pub fn send_in_pieces(&mut self, command: u16, payload: &[u8]) -> u16 {
        let message = self.message(command, payload);
        self.stream.write_all(&message[..20]).unwrap();
        std::thread::sleep(Duration::from_millis(100));
        self.stream.write_all(&message[20..]).unwrap();
        self.number
    }

    /// {number, command, payload or errno}
    pub fn receive(&mut self) -> Option<(u16, u16, Result<Vec<u8>, i32>)> {
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).ok()?;
        let half = |at: usize| u16::from_ne_bytes([head[at], head[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; word(4) as usize - 16];
        self.stream.read_exact(&mut payload).ok()?;
        assert_eq!(word(8) & 15, 1, "no answer");
        let result = if word(8) & 0x20 == 0 { Ok(payload) } else { Err(word(12) as i32) };
        Some((half(0), half(2), result))
    }

    pub fn wait(&mut self, command: u16, number: u16) -> Result<Vec<u8>, i32> {
        let (got, what, result) = self.receive().expect("an answer");
        assert_eq!((got, what), (number, command));
        result
    }

    pub fn call(&mut self, command: u16, payload: &[u8]) -> Result<Vec<u8>, i32> {
        let number = self.post(command, payload);
        self.wait(command, number)
    }

    pub fn is_closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0; 1]), Ok(0))
    }

    /// Messages of any content with right and wrong lengths, and bytes that are none. Answers are thrown away.
    pub fn send_hostile(&mut self, messages: &[(u16, Vec<u32>, u32)], tail: &[u8]) {
        let mut answers = self.stream.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 16];
            while matches!(answers.read(&mut bytes), Ok(1..)) {}
        });
        for (command, payload, flags) in messages {
            let mut message = self.message(*command, &words(payload));
            message[8..12].copy_from_slice(&flags.to_ne_bytes());
            match self.stream.write_all(&message) {
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => break,
                other => other.unwrap(),
            }
        }
        // It may have gone.
        let _ = self.stream.write_all(tail);
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        reader.join().unwrap();
    }
}
