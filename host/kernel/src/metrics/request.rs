//! What HTTP requests are counted by: closed sets, whatever a client sends.

/// A request's method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// `GET`.
    Get,
    /// `HEAD`.
    Head,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `OPTIONS`.
    Options,
    /// Any other, however many a client thinks of.
    Other,
}

impl HttpMethod {
    /// Every method.
    pub const ALL: [Self; 8] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Patch,
        Self::Delete,
        Self::Options,
        Self::Other,
    ];

    /// The method of that name, which is case-sensitive.
    #[must_use]
    pub fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|method| method.label() == name).unwrap_or(Self::Other)
    }

    /// As the label `method` has it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Other => "other",
        }
    }
}

/// What an answer's status says in the main.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusClass {
    /// 100 to 199.
    Informational,
    /// 200 to 299.
    Success,
    /// 300 to 399.
    Redirection,
    /// 400 to 499.
    ClientError,
    /// 500 and above.
    ServerError,
}

impl StatusClass {
    /// Every class.
    pub const ALL: [Self; 5] = [
        Self::Informational,
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::ServerError,
    ];

    /// The class of that status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            0..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirection,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }

    /// As the label `status` has it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Informational => "1xx",
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::ServerError => "5xx",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_a_closed_set() {
        assert_eq!(HttpMethod::of("PATCH"), HttpMethod::Patch);
        for other in ["get", "", "other", "PROPFIND", "GET "] {
            assert_eq!(HttpMethod::of(other), HttpMethod::Other, "{other:?}");
        }
        for (status, label) in
            [(100, "1xx"), (200, "2xx"), (304, "3xx"), (499, "4xx"), (500, "5xx"), (999, "5xx")]
        {
            assert_eq!(StatusClass::of(status).label(), label);
        }
    }
}
