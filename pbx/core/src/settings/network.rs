//! Settings of the network around the appliance.

use super::{ExternalAddress, Prefixes, SettingError};

/// `network.*`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// `network.local_networks`: where peers reach the appliance without a router that translates addresses, and where
    /// IPv6 is counted by single address.
    pub local_networks: Prefixes,
    /// `network.external_address`: how everybody else reaches it.
    pub external_address: ExternalAddress,
}

impl NetworkSettings {
    /// Whether they fit together.
    pub(super) fn check(&self) -> Result<(), SettingError> {
        match self.local_networks.iter().find(|prefix| prefix.is_everything()) {
            Some(everything) => Err(SettingError::Conflict {
                key: "network.local_networks",
                message: format!("{everything} is everything: name the networks that are local"),
            }),
            None => Ok(()),
        }
    }

    /// Something to write the defaults into.
    pub(super) fn lowest() -> Self {
        Self { local_networks: Prefixes::default(), external_address: ExternalAddress::default() }
    }
}
