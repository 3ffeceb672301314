//! The methods of the client's port, their paths and kinds.

use crate::grpc::Code;
use crate::status::Refusal;

/// How many messages go each way (the label `grpc_type` of etcd's metrics).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One request, one answer.
    Unary,
    /// One request, many answers.
    ServerStream,
    /// Many of both.
    BidiStream,
}

impl Kind {
    /// The label's value.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unary => "unary",
            Self::ServerStream => "server_stream",
            Self::BidiStream => "bidi_stream",
        }
    }
}

macro_rules! methods {
    ($($service:literal { $($variant:ident = $name:literal $kind:ident;)* })*) => {
        /// A method of a service on the client's port.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        #[repr(u8)]
        pub enum Method { $($($variant,)*)* }

        impl Method {
            /// All methods, in the order of their numbers.
            pub const ALL: &[Self] = &[$($(Self::$variant,)*)*];

            /// The service's full name.
            pub const fn service(self) -> &'static str {
                match self { $($(Self::$variant => $service,)*)* }
            }

            /// The method's name within its service.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)*)* }
            }

            /// How many messages go each way.
            pub const fn kind(self) -> Kind {
                match self { $($(Self::$variant => Kind::$kind,)*)* }
            }

            /// The method behind a path such as `/etcdserverpb.KV/Put`; refused in grpc-go's words when there is none.
            pub fn find(path: &str) -> Result<Self, Refusal> {
                match path {
                    $($(concat!("/", $service, "/", $name) => Ok(Self::$variant),)*)*
                    _ => Err(unknown(path)),
                }
            }
        }

        const SERVICES: &[&str] = &[$($service),*];
    };
}

methods! {
    "etcdserverpb.KV" {
        Put = "Put" Unary;
        Range = "Range" Unary;
        Txn = "Txn" Unary;
        DeleteRange = "DeleteRange" Unary;
        RangeStream = "RangeStream" ServerStream;
        Compact = "Compact" Unary;
    }
    "etcdserverpb.Watch" {
        Watch = "Watch" BidiStream;
    }
    "etcdserverpb.Lease" {
        LeaseGrant = "LeaseGrant" Unary;
        LeaseRevoke = "LeaseRevoke" Unary;
        LeaseKeepAlive = "LeaseKeepAlive" BidiStream;
        LeaseTimeToLive = "LeaseTimeToLive" Unary;
        LeaseLeases = "LeaseLeases" Unary;
    }
    "etcdserverpb.Cluster" {
        MemberAdd = "MemberAdd" Unary;
        MemberRemove = "MemberRemove" Unary;
        MemberUpdate = "MemberUpdate" Unary;
        MemberList = "MemberList" Unary;
        MemberPromote = "MemberPromote" Unary;
    }
    "etcdserverpb.Maintenance" {
        Alarm = "Alarm" Unary;
        Status = "Status" Unary;
        Defragment = "Defragment" Unary;
        Hash = "Hash" Unary;
        HashKv = "HashKV" Unary;
        Snapshot = "Snapshot" ServerStream;
        MoveLeader = "MoveLeader" Unary;
        Downgrade = "Downgrade" Unary;
    }
    "etcdserverpb.Auth" {
        AuthEnable = "AuthEnable" Unary;
        AuthDisable = "AuthDisable" Unary;
        AuthStatus = "AuthStatus" Unary;
        Authenticate = "Authenticate" Unary;
        UserAdd = "UserAdd" Unary;
        UserGet = "UserGet" Unary;
        UserList = "UserList" Unary;
        UserDelete = "UserDelete" Unary;
        UserChangePassword = "UserChangePassword" Unary;
        UserGrantRole = "UserGrantRole" Unary;
        UserRevokeRole = "UserRevokeRole" Unary;
        RoleAdd = "RoleAdd" Unary;
        RoleGet = "RoleGet" Unary;
        RoleList = "RoleList" Unary;
        RoleDelete = "RoleDelete" Unary;
        RoleGrantPermission = "RoleGrantPermission" Unary;
        RoleRevokePermission = "RoleRevokePermission" Unary;
    }
    "grpc.health.v1.Health" {
        HealthCheck = "Check" Unary;
        HealthList = "List" Unary;
        HealthWatch = "Watch" ServerStream;
    }
    "v3lockpb.Lock" {
        Lock = "Lock" Unary;
        Unlock = "Unlock" Unary;
    }
    "v3electionpb.Election" {
        Campaign = "Campaign" Unary;
        Proclaim = "Proclaim" Unary;
        Leader = "Leader" Unary;
        Observe = "Observe" ServerStream;
        Resign = "Resign" Unary;
    }
}

#[cold]
fn unknown(path: &str) -> Refusal {
    let text = match path
        .strip_prefix('/')
        .and_then(|path| path.rsplit_once('/'))
    {
        Some((service, method)) if SERVICES.contains(&service) => {
            format!("unknown method {method} for service {service}")
        }
        Some((service, _)) => format!("unknown service {service}"),
        None => format!("malformed method name: {path:?}"),
    };
    Refusal::told(Code::Unimplemented, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_at_its_path() {
        for &method in Method::ALL {
            let path = format!("/{}/{}", method.service(), method.name());
            assert_eq!(Method::find(&path), Ok(method));
        }
    }

    #[test]
    fn an_unknown_path_is_refused_in_the_words_of_grpc_go() {
        let text = |path| Method::find(path).expect_err("unknown").text().to_owned();
        assert_eq!(
            text("/etcdserverpb.KV/Get"),
            "unknown method Get for service etcdserverpb.KV"
        );
        assert_eq!(text("/foo.Bar/Get"), "unknown service foo.Bar");
        assert_eq!(text("foo"), "malformed method name: \"foo\"");
    }
}
