//! The part of a request behind the question mark.

use axum::http::Uri;

use crate::config::nearest;

/// Names and values, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads it; `known` are the names that there are.
    ///
    /// # Errors
    ///
    /// Which name is unknown, and which may be meant.
    pub(super) fn parse(uri: &Uri, known: &[&str]) -> Result<Self, String> {
        let text = uri.query().unwrap_or_default();
        let pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect();
        for (name, _) in &pairs {
            if !known.contains(&name.as_str()) {
                return Err(match nearest(name, known.iter().copied()) {
                    Some(meant) => format!("unknown parameter {name:?}: did you mean {meant:?}?"),
                    None => format!("unknown parameter {name:?}: there are {}", known.join(", ")),
                });
            }
        }
        Ok(Self(pairs))
    }

    /// Returns the last value of a name.
    pub(super) fn one(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Returns every value of a name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.0.iter().filter(move |(its, _)| its == name);
        named.map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_decoded_and_an_unknown_name_is_an_error_with_a_suggestion() {
        let uri: Uri = "/v1/events?type=process.exit&type=io&comm=a%20b"
            .parse()
            .expect("a URI");
        let query = Query::parse(&uri, &["type", "comm"]).expect("known names");
        assert_eq!(
            query.all("type").collect::<Vec<_>>(),
            ["process.exit", "io"]
        );
        assert_eq!(query.one("comm"), Some("a b"));
        let error = Query::parse(&uri, &["typ", "comm"]).expect_err("unknown");
        assert!(error.contains("did you mean \"typ\""), "{error}");
    }
}
