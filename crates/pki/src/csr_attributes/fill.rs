//! Fills in what a server's attributes leave to the client.

use super::RequiredExtension;
use crate::der::{Reader, Tag, Writer};
use crate::general_name::{GeneralName, GeneralNames, GeneralNamesError};
use crate::name::Name;

const IP_ADDRESS: Tag = Tag::context(7);
const DIRECTORY_NAME: Tag = Tag::context_constructed(4);
/// A Name without relative names.
const NULL_DN: [u8; 2] = [0x30, 0];

impl RequiredExtension<'_> {
    /// The value of a subjectAltName that is asked for, for a device with these names. Names that the server gives are taken over; "an
    /// iPAddress choice with an empty OCTET STRING" and "a directoryName choice containing the NULL-DN" mean "that the client SHOULD fill in
    /// the respective GeneralName value" (RFC 9908 §3.4). A form for which the device has no name is left out; without any value of the server,
    /// the names are the device's own.
    ///
    /// # Errors
    /// The value is not a list of general names, or has too many of them.
    pub fn alternative_names(&self, own: &GeneralNames, subject: &Name) -> Result<GeneralNames, GeneralNamesError> {
        let Some(value) = self.value else { return Ok(own.clone()) };
        let mut forms = Reader::sequence(value)?;
        let mut names = Writer::with_capacity(value.len());
        while !forms.is_empty() {
            let form = forms.element()?;
            if form.tag == IP_ADDRESS && form.contents.is_empty() {
                own.iter().filter(|name| matches!(name, GeneralName::Ip(_))).for_each(|name| name.write(&mut names));
            } else if form.tag == DIRECTORY_NAME && form.contents == NULL_DN {
                match own.iter().find(|name| matches!(name, GeneralName::Directory(_))) {
                    Some(name) => name.write(&mut names),
                    None if subject.is_empty() => {}
                    None => GeneralName::Directory(subject.der()).write(&mut names),
                }
            } else {
                names.raw(form.whole);
            }
        }
        if names.is_empty() {
            return Ok(GeneralNames::empty());
        }
        let mut out = Writer::with_capacity(names.len() + 4);
        out.sequence(|out| out.raw(&names.into_vec()));
        GeneralNames::parse(&out.into_vec())
    }
}
