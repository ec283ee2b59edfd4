//! The configuration file: where things are. What the filter does is a setting, kept in the store.
//! Every key is optional; an unknown key is an error, because a misspelt one would be silently ignored.

use std::{
    io,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, de};

/// Where the daemon looks when it is not told otherwise; this one may be missing.
pub const DEFAULT_PATH: &str = "/etc/pbx/pbx.toml";
/// Where the web server listens unless it is told otherwise.
pub const WEB_PORT: u16 = 8887;
/// Addresses that the web server may have.
const MOST_ADDRESSES: usize = 16;
/// The socket of daemon and command line.
pub const DEFAULT_SOCKET: &str = "/run/pbx/pbx.sock";

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Database and other state that outlives a reboot.
    pub data_dir: PathBuf,
    /// The unix socket of the API.
    pub socket: PathBuf,
    /// The packet filter.
    pub xdp: Xdp,
    /// The web server.
    pub web: Web,
}

/// `[web]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Web {
    /// Where portal and REST API are served by HTTPS; none: nowhere. `[::]` is all addresses of both families.
    #[serde(deserialize_with = "few_addresses")]
    pub listen: Vec<SocketAddr>,
}

/// `[xdp]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Xdp {
    /// Which interfaces are filtered.
    pub interfaces: Interfaces,
    /// How the program is attached.
    pub attach: Attach,
    /// A bpffs folder for the pinned links and maps.
    pub pin_dir: PathBuf,
}

/// `"auto"` or a list of names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Interfaces {
    /// Those under default routes and connected networks.
    #[default]
    Auto,
    /// Exactly these; one that does not exist yet is attached when it appears.
    Named(Vec<String>),
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attach {
    /// Native, else generic, loudly.
    #[default]
    Auto,
    /// Native or not at all.
    Native,
    /// In the generic path.
    Generic,
    /// Not at all: rules are kept, nothing is filtered.
    Off,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; name another file with --config FILE", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file says something that has no meaning.
    #[error("{}: {message}", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Line, column, key and what was expected.
        message: String,
    },
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: "/var/lib/pbx".into(),
            socket: DEFAULT_SOCKET.into(),
            xdp: Xdp::default(),
            web: Web::default(),
        }
    }
}

impl Default for Web {
    fn default() -> Self {
        Self { listen: vec![(Ipv6Addr::UNSPECIFIED, WEB_PORT).into()] }
    }
}

impl Default for Xdp {
    fn default() -> Self {
        Self { interfaces: Interfaces::Auto, attach: Attach::Auto, pin_dir: "/run/pbx/bpf".into() }
    }
}

impl Config {
    /// Reads `path`, or the default file when there is none; only the default file may be missing.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let (path, required) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|message| ConfigError::Parse { path: path.to_path_buf(), message }),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !required => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_path_buf(), source }),
        }
    }

    /// Parses the text of a file; the error names line and key.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }
}

impl<'de> Deserialize<'de> for Interfaces {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "interfaces is \"auto\" or a list of names such as [\"eth0\"]")]
        enum Shape {
            Word(String),
            Names(Vec<String>),
        }
        match Shape::deserialize(deserializer)? {
            Shape::Word(word) if word == "auto" => Ok(Self::Auto),
            Shape::Word(word) => {
                Err(de::Error::custom(format!("interfaces = \"{word}\": write \"auto\" or [\"{word}\"]")))
            }
            Shape::Names(names) => {
                if let Some(bad) = names.iter().find(|name| !is_interface_name(name)) {
                    return Err(de::Error::custom(format!(
                        "interfaces: \"{bad}\" is no interface name (1 to 15 bytes, no slash, colon or space)"
                    )));
                }
                Ok(Self::Named(names))
            }
        }
    }
}

fn few_addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(deserializer)?;
    if texts.len() > MOST_ADDRESSES {
        return Err(de::Error::custom(format!(
            "listen: {} addresses are too many (at most {MOST_ADDRESSES})",
            texts.len()
        )));
    }
    let address = |text: &String| {
        text.parse().ok().filter(|address: &SocketAddr| address.port() != 0).ok_or_else(|| {
            de::Error::custom(format!(
                "listen: {text:?} is no address with a port of 1 to 65535: write \"192.0.2.1:{WEB_PORT}\" or \"[::]:{WEB_PORT}\""
            ))
        })
    };
    texts.iter().map(address).collect()
}

/// What the kernel takes as a name: at most 15 bytes, no `/`, `:` or white space.
pub fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn every_key_is_read() {
        let config = Config::parse(
            "data_dir = '/a'\nsocket = '/b'\n[xdp]\ninterfaces = ['eth0', 'eth1']\nattach = 'generic'\npin_dir = '/c'\n",
        )
        .unwrap();
        assert_eq!(config.data_dir, Path::new("/a"));
        assert_eq!(config.socket, Path::new("/b"));
        assert_eq!(config.xdp.interfaces, Interfaces::Named(vec!["eth0".into(), "eth1".into()]));
        assert_eq!(config.xdp.attach, Attach::Generic);
        assert_eq!(config.xdp.pin_dir, Path::new("/c"));
        let auto = Config::parse("[xdp]\ninterfaces = 'auto'\nattach = 'off'").unwrap();
        assert_eq!((auto.xdp.interfaces, auto.xdp.attach), (Interfaces::Auto, Attach::Off));
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(Config::parse("datadir = '/a'").unwrap_err().contains("datadir"));
        assert!(Config::parse("[xdp]\ninterface = 'eth0'").unwrap_err().contains("interface"));
    }

    #[test]
    fn a_wrong_value_says_what_is_right() {
        let word = Config::parse("[xdp]\ninterfaces = 'eth0'").unwrap_err();
        assert!(word.contains("[\"eth0\"]"), "{word}");
        let number = Config::parse("[xdp]\ninterfaces = 3").unwrap_err();
        assert!(number.contains("\"auto\" or a list"), "{number}");
        let attach = Config::parse("[xdp]\nattach = 'fast'").unwrap_err();
        assert!(attach.contains("native"), "{attach}");
        assert!(Config::parse("[xdp]\ninterfaces = ['a/b']").unwrap_err().contains("a/b"));
    }

    #[test]
    fn only_the_default_file_may_be_missing() {
        let error = Config::load(Some(Path::new("/nonexistent/pbx.toml"))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/pbx.toml"));
    }
}
