//! Enums whose variants have one spelling each.

/// Declares an enum whose variants each have one stable label, which is the same in configurations, logs, metrics and
/// JSON:
///
/// ```text
/// label_enum! {
///     /// What is done about drift.
///     pub enum DriftPolicy {
///         /// Fix it.
///         Heal = "heal",
///     }
/// }
/// ```
///
/// The enum gets `as_str`, `ALL` in the order of declaration, and `Display`, `Serialize` and `Deserialize` by the label.
/// If a variant has a field, the label does not say it. Such an enum has no `ALL` and is not read back.
macro_rules! label_enum {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $label:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
        )]
        $vis enum $name {
            $($(#[$variant_meta])* #[serde(rename = $label)] $variant,)*
        }

        impl $name {
            /// All of them, in the order of declaration.
            $vis const ALL: [Self; [$($label),*].len()] = [$(Self::$variant),*];
        }

        $crate::model::label_enum!(@label $vis $name { $($variant = $label,)* });
    };
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident $(($field:ty))? = $label:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis enum $name {
            $($(#[$variant_meta])* $variant $(($field))?,)*
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        $crate::model::label_enum!(@label $vis $name { $($variant = $label,)* });
    };
    (@label $vis:vis $name:ident { $($variant:ident = $label:literal,)* }) => {
        impl $name {
            /// The stable label.
            #[must_use]
            $vis const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $label,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

pub(crate) use label_enum;
