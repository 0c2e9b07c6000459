//! Fills templates: one resource a line, the same in every run.

use super::groups::GROUPS;
use super::templates::{COMPARTMENT, OUTSIDE};

/// A patient: id, given name, family name, gender, date of birth.
type Patient = (&'static str, &'static str, &'static str, &'static str, &'static str);

const PATIENTS: [Patient; 8] = [
    ("ada", "Ada", "Ferreira", "female", "1951-03-09"),
    ("bo", "Bo", "Lindqvist", "male", "1988-11-30"),
    ("cyd", "Cyd", "O'Neill", "other", "1999-01"),
    ("dee", "Dee", "Nakamura", "female", "2015-07-21"),
    ("eli", "Eli", "Brânză", "male", "1942"),
    ("fay", "Fay", "Müller", "female", "1973-12-24"),
    ("gus", "Gus", "van der Berg", "male", "2001-02-28"),
    ("hal", "Hal", "\\u0106osi\\u0107", "unknown", "1966-06-06"),
];

/// Times of last change, in every precision and offset; several are the same moment, midnight of 2024-01-01 in UTC.
const LAST_UPDATED: [&str; 12] = [
    "2023-05-01T08:15:30Z",
    "2024-01-01T00:00:00Z",
    "2023-07-18T00:38:18.461Z",
    "2024-01-01T01:00:00+01:00",
    "2022-02-28T23:59:59.999999999-05:00",
    "2024-01-01T00:00:00.000Z",
    "2023-12-31T23:59:59.9999999999Z",
    "2024-03-10T04:05:06.5+05:30",
    "2023-12-31T18:30:00-05:30",
    "2024-01-01T00:00:00.0000000001Z",
    "2021-11-11T11:11:11.11Z",
    "2024-06-30T12:00:00+14:00",
];

/// A resource and its type.
pub(crate) struct Resource {
    pub(crate) resource_type: &'static str,
    pub(crate) line: String,
}

/// Fills templates, counting as it goes: what varies, varies with the counts and a small generator of numbers.
pub(crate) struct Writer {
    numbers: Xorshift,
    resources: Vec<Resource>,
    references: usize,
    strangers: usize,
}

impl Writer {
    /// Writes all resources of `testdata/small`.
    pub(crate) fn write() -> Vec<Resource> {
        let mut writer =
            Self { numbers: Xorshift(0x2545_F491_4F6C_DD1D), resources: Vec::new(), references: 0, strangers: 0 };
        writer.write_patients();
        writer.write_groups();
        for (row, &(resource_type, body)) in COMPARTMENT.iter().enumerate() {
            let copies = if resource_type == "Observation" { 8 } else { 2 + row % 3 };
            for copy in 0..copies {
                writer.write_clinical(resource_type, body, row + copy * 3, copy == 0);
            }
        }
        for &(resource_type, id, body) in OUTSIDE {
            writer.push(resource_type, id, "", body);
        }
        writer.resources
    }

    fn write_patients(&mut self) {
        for (index, (id, given, family, gender, born)) in PATIENTS.into_iter().enumerate() {
            let link = match id {
                "gus" => r#","link":[{"other":{"reference":"Patient/hal"},"type":"seealso"}]"#,
                "hal" => r#","link":[{"other":{"reference":"RelatedPerson/relatedperson-1"},"type":"seealso"}]"#,
                _ => "",
            };
            let body = format!(
                r#""identifier":[{{"system":"http://harbour.example.org/mrn","value":"{:06}"}}],"active":true,"name":[{{"use":"official","family":"{family}","given":["{given}"]}}],"gender":"{gender}","birthDate":"{born}"{link}"#,
                100_200 + index * 37,
            );
            self.push("Patient", id, "", &body);
        }
    }

    fn write_groups(&mut self) {
        for &(id, head, members) in GROUPS {
            let members: Vec<String> = members
                .iter()
                .map(|(entity, beside)| format!(r#"{{"entity":{{"reference":"{entity}"}}{beside}}}"#))
                .collect();
            let member =
                if members.is_empty() { String::new() } else { format!(r#","member":[{}]"#, members.join(",")) };
            self.push("Group", id, "", &format!("{head}{member}"));
        }
    }

    /// One resource about the patient whose turn it is; the first of a row has a plain reference.
    fn write_clinical(&mut self, resource_type: &'static str, template: &str, turn: usize, plain: bool) {
        let mut contained = String::new();
        let mut body = template.to_owned();
        while body.contains("@patient") {
            let reference = if plain { plain_reference(turn) } else { self.patient_reference(turn, &mut contained) };
            body = body.replacen("@patient", &reference, 1);
        }
        while body.contains("@stranger") {
            let reference = self.stranger(turn, &mut contained);
            body = body.replacen("@stranger", &reference, 1);
        }
        let day = self.numbers.below(28) + 1;
        let month = self.numbers.below(12) + 1;
        let (_, given, family, _, _) = in_turn(&PATIENTS, turn);
        let body = body
            .replace("@other", &plain_reference(turn + 1))
            .replace("@name", &format!("{given} {family}"))
            .replace("@date", &format!("2023-{month:02}-{day:02}"))
            .replace("@time", &format!("2023-{month:02}-{day:02}T{:02}:30:00Z", self.numbers.below(24)))
            .replace("@number", &(self.numbers.below(90) + 10).to_string())
            .replace("@practitioner", r#"{"reference":"Practitioner/iris","display":"Dr. Okafor"}"#)
            .replace("@organization", r#"{"reference":"Organization/harbour"}"#)
            .replace("@location", r#"{"reference":"Location/ward-3"}"#)
            .replace("@medication", r#"{"reference":"Medication/metformin"}"#)
            .replace("@device", r#"{"reference":"Device/monitor"}"#)
            .replace("@encounter", r#"{"reference":"Encounter/encounter-1"}"#);
        let number = 1 + self.resources.iter().filter(|resource| resource.resource_type == resource_type).count();
        let id = format!("{}-{number}", resource_type.to_ascii_lowercase());
        self.push(resource_type, &id, &contained, &body);
    }

    /// A patient in one of the ways that count, or, one time in five, in one that doesn't.
    fn patient_reference(&mut self, patient: usize, contained: &mut String) -> String {
        self.references += 1;
        let (id, ..) = in_turn(&PATIENTS, patient);
        match self.references % 10 {
            1 => format!(r#"{{"reference":"Patient/{id}/_history/2"}}"#),
            3 => format!(r#"{{"reference":"https://fhir.example.org/r4/Patient/{id}"}}"#),
            5 => format!(r#"{{"type":"Patient","display":"of record","reference":"Patient/{id}"}}"#),
            7 => format!(r#"{{"reference":"https://fhir.example.org/r4/Patient/{id}/_history/11"}}"#),
            8 if self.references % 20 == 8 => r#"{"reference":"Patient/not-here"}"#.to_owned(),
            4 | 9 => self.stranger(patient, contained),
            _ => plain_reference(patient),
        }
    }

    /// Someone who isn't a patient of the source's.
    fn stranger(&mut self, patient: usize, contained: &mut String) -> String {
        self.strangers += 1;
        let (id, given, ..) = in_turn(&PATIENTS, patient);
        match self.strangers % 6 {
            0 => format!(r#"{{"reference":"https://other.example.com/fhir/Patient/{id}"}}"#),
            1 => r#"{"reference":"urn:uuid:53fefa32-fcbb-4ff8-8a92-55ee120877b7"}"#.to_owned(),
            2 => {
                *contained =
                    format!(r##""contained":[{{"resourceType":"Patient","id":"p","name":[{{"text":"{given}"}}]}}],"##);
                r##"{"reference":"#p"}"##.to_owned()
            }
            3 => format!(r#"{{"type":"Patient","identifier":{{"value":"{id}"}}}}"#),
            4 => format!(r#"{{"display":"Patient/{id}"}}"#),
            _ => format!(r#"{{"reference":"http://fhir.example.org/r4/Patient/{id}"}}"#),
        }
    }

    fn push(&mut self, resource_type: &'static str, id: &str, contained: &str, body: &str) {
        let count = self.resources.len();
        // A contained resource that says it is another type, another id, another patient's, long unchanged.
        let misleading = r#""contained":[{"resourceType":"Observation","id":"ada","meta":{"lastUpdated":"1999-01-01T00:00:00Z"},"subject":{"reference":"Patient/ada"}}],"#;
        let contained = if contained.is_empty() && count % 11 == 10 { misleading } else { contained };
        let meta = meta(count);
        let line = match count % 4 {
            1 => format!(r#"{{"resourceType":"{resource_type}",{contained}"id":"{id}",{meta}{body}}}"#),
            2 => format!(r#"{{{contained}"id":"{id}","resourceType":"{resource_type}",{meta}{body}}}"#),
            _ => format!(r#"{{"resourceType":"{resource_type}","id":"{id}",{meta}{contained}{body}}}"#),
        };
        self.resources.push(Resource { resource_type, line });
    }
}

/// The item whose turn it is.
fn in_turn<T: Copy>(items: &[T], turn: usize) -> T {
    #[expect(clippy::indexing_slicing, reason = "the index is below the length")]
    items[turn % items.len()]
}

fn plain_reference(patient: usize) -> String {
    let (id, ..) = in_turn(&PATIENTS, patient);
    format!(r#"{{"reference":"Patient/{id}"}}"#)
}

/// The `meta` of the resource that is written as the `count`th; some have none, some have no time.
fn meta(count: usize) -> String {
    match count % 15 {
        13 => String::new(),
        14 => r#""meta":{"versionId":"1","source":"urn:harbour"},"#.to_owned(),
        turn => {
            let time = in_turn(&LAST_UPDATED, turn);
            let tag = if turn == 6 { r#","tag":[{"code":"test"}]"# } else { "" };
            format!(r#""meta":{{"versionId":"{}","lastUpdated":"{time}"{tag}}},"#, 1 + turn % 4)
        }
    }
}

/// Marsaglia's xorshift: enough to vary numbers and dates.
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
