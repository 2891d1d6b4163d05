//! Users whom a proxy names in a header (PROTOCOL 4.2): for products behind one that has signed them in.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use http::request::Parts;
use http::{HeaderName, StatusCode};
use turnkit_http::server::ApiError;

use crate::Principal;

/// The tenant of these users: the proxy vouches for all of them.
const TENANT: &str = "proxy";
/// How long the name of a user may be, in bytes.
const MAX_NAME: usize = 256;

/// A header that says who asks, believed where one of these proxies sends it and nowhere else.
///
/// ```
/// use turnkit_chat::{TrustedHeader, TrustedUser};
///
/// # fn with(chat: turnkit_chat::Chat) -> Result<(), Box<dyn std::error::Error>> {
/// let users = TrustedHeader::new("X-Forwarded-User".parse()?, ["10.0.0.0/8".parse()?]);
/// let routes: axum::Router = chat.router::<TrustedHeader, TrustedUser>().with_state(users);
/// # Ok(()) }
/// ```
///
/// The address that counts is that of the connection, as [`ConnectInfo`] in the request's extensions tells it; the listener of
/// `turnkit-http` puts it there, and `axum::serve` where it is asked to. No `X-Forwarded-For` is read. The proxy must take the header
/// out of what clients send.
#[derive(Clone, Debug)]
pub struct TrustedHeader {
    name: HeaderName,
    proxies: Arc<[Network]>,
}

impl TrustedHeader {
    /// Believes the header `name` of requests from these addresses.
    pub fn new(name: HeaderName, proxies: impl IntoIterator<Item = Network>) -> TrustedHeader {
        TrustedHeader { name, proxies: proxies.into_iter().collect() }
    }

    fn user(&self, parts: &Parts) -> Result<Principal, ApiError> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        if !peer.is_some_and(|peer| self.proxies.iter().any(|network| network.contains(peer))) {
            let message = "requests must come through the proxy that says who asks";
            return Err(ApiError::new(StatusCode::FORBIDDEN, "forbidden", message));
        }
        let mut values = parts.headers.get_all(&self.name).iter();
        let (Some(name), None) = (values.next(), values.next()) else {
            return Err(ApiError::unauthorized("the proxy must say once who asks"));
        };
        let name = std::str::from_utf8(name.as_bytes()).ok().map(str::trim);
        let name = name.filter(|name| {
            (1..=MAX_NAME).contains(&name.len()) && !name.contains(char::is_control)
        });
        let name = name.ok_or_else(|| {
            ApiError::unauthorized("the proxy must name who asks in 1 to 256 bytes of UTF-8")
        })?;
        Ok(Principal::new(TENANT, name))
    }
}

/// The user of a request, as a proxy names them: 403 `forbidden` where the request comes from anywhere else, and 401 `unauthorized`
/// where it names nobody. The tenant is `proxy`.
#[derive(Clone, Debug)]
pub struct TrustedUser(pub Principal);

impl From<TrustedUser> for Principal {
    fn from(user: TrustedUser) -> Principal {
        user.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TrustedUser
where
    TrustedHeader: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<TrustedUser, ApiError> {
        TrustedHeader::from_ref(state).user(parts).map(TrustedUser)
    }
}

/// Addresses with the same first bits, as `10.0.0.0/8`, `fd00::/8`, or one alone: `127.0.0.1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// What is no [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be an address and how many of its bits count, such as 10.0.0.0/8 or 127.0.0.1")]
pub struct NoNetwork;

impl Network {
    /// Whether the address is one of it. An IPv4 address that is written as an IPv6 one is the IPv4 one.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.bits) == Some(self.address)
    }
}

impl FromStr for Network {
    type Err = NoNetwork;

    /// Bits beyond those that count must be zero: who writes `10.1.2.3/8` may have meant something else.
    fn from_str(text: &str) -> Result<Network, NoNetwork> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if bits.bytes().all(|byte| byte.is_ascii_digit()) => {
                (address, Some(bits.parse().map_err(|_| NoNetwork)?))
            }
            Some(_) => return Err(NoNetwork),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NoNetwork)?;
        let bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
        let network = Network { address, bits };
        if masked(address, bits) == Some(address) { Ok(network) } else { Err(NoNetwork) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// The address with all but its first `bits` bits zero; `None` where it has not so many.
fn masked(address: IpAddr, bits: u8) -> Option<IpAddr> {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.checked_sub(bits)?).unwrap_or(0);
            Some(Ipv4Addr::from_bits(address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128_u32.checked_sub(bits)?).unwrap_or(0);
            Some(Ipv6Addr::from_bits(address.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_has_the_addresses_that_begin_like_it() {
        for (network, address, is_in) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.0.0.1", true),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("0.0.0.0/0", "::1", false),
            ("fd00::/8", "fd12::1", true),
            ("fd00::/8", "fe80::1", false),
            ("::/0", "fe80::1", true),
            ("::/0", "10.0.0.1", false),
        ] {
            let contains = self::network(network).contains(address.parse().unwrap());
            assert_eq!(contains, is_in, "{network} {address}");
        }
        for text in [
            "",
            "10",
            "10.0.0.1/8",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "::/129",
            "proxy",
            "::/0/0",
        ] {
            assert_eq!(text.parse::<Network>(), Err(NoNetwork), "{text}");
        }
    }

    #[test]
    fn a_user_is_named_by_a_proxy_and_by_nobody_else() {
        let users =
            TrustedHeader::new("x-user".parse().unwrap(), [network("10.0.0.0/8"), network("::1")]);
        let ask = |from: Option<&str>, names: &[&[u8]]| {
            let mut request = Request::builder();
            for name in names {
                request = request.header("X-User", *name);
            }
            let mut parts = request.body(()).unwrap().into_parts().0;
            if let Some(from) = from {
                let peer: SocketAddr = from.parse().unwrap();
                parts.extensions.insert(ConnectInfo(peer));
            }
            users.user(&parts).map_err(|error| error.status().as_u16())
        };
        let ann = Ok(Principal::new("proxy", "ann"));
        assert_eq!(ask(Some("10.1.1.1:5"), &[b"ann"]), ann);
        assert_eq!(ask(Some("[::1]:5"), &[b" ann "]), ann);
        for elsewhere in [Some("192.0.2.1:5"), Some("[::2]:5"), None] {
            assert_eq!(ask(elsewhere, &[b"ann"]), Err(403), "{elsewhere:?}");
        }
        let long = "n".repeat(257);
        let wrong: [&[&[u8]]; 7] =
            [&[], &[b""], &[b"  "], &[b"ann", b"ann"], &[b"\xff"], &[b"a\tb"], &[long.as_bytes()]];
        for names in wrong {
            assert_eq!(ask(Some("10.1.1.1:5"), names), Err(401), "{names:?}");
        }
        assert_eq!(
            ask(Some("10.1.1.1:5"), &["Änn".as_bytes()]),
            Ok(Principal::new("proxy", "Änn"))
        );
    }
}
