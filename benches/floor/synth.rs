//! The synthetic data of the goals: seven types with the sizes of a claims-heavy store, the same bytes every time.
//!
//! 390,850 resources of 2.7 KB on average: Observation 1.0 KB, Condition 1.1 KB, Encounter 1.6 KB, Claim 3.1 KB,
//! ExplanationOfBenefit 11 KB, Patient 3 KB, DocumentReference 21 KB, shuffled. `meta.lastUpdated` is spread evenly
//! over 2020 to 2024, so that [`SINCE`] keeps half.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Half of the resources were last updated before it.
pub const SINCE: &str = "2022-07-02T12:00:00Z";

/// The Group of one patient in a hundred.
pub const GROUP: &str = "one-percent";

/// Resources in all.
pub const RESOURCES: usize = 390_850;
const FIRST_SECOND: i64 = 1_577_836_800;
const SECONDS: u64 = 1827 * 86_400;

/// Types, and how many of a thousand resources are of each.
const TYPES: [(&str, u64); 7] = [
    ("Observation", 576),
    ("Claim", 144),
    ("ExplanationOfBenefit", 100),
    ("Condition", 96),
    ("Encounter", 51),
    ("DocumentReference", 17),
    ("Patient", 16),
];

const WORDS: [&str; 16] = [
    "Encounter for problem",
    "Body Mass Index",
    "Acute viral pharyngitis",
    "General examination of patient",
    "Hemoglobin A1c/Hemoglobin.total in Blood",
    "Prediabetes",
    "Emergency room admission",
    "Chronic sinusitis",
    "Documentation of current medications",
    "Influenza, seasonal, injectable",
    "Sodium",
    "Diastolic blood pressure",
    "Laceration of hand",
    "Médecine générale \\u2013 suivi",
    "Outpatient procedure",
    "Patient encounter procedure",
];

/// The folders of the generated data.
#[derive(Clone, Debug)]
pub struct Folders {
    /// One file that holds all types, shuffled.
    pub mixed: PathBuf,
    /// The same lines, one file for each type.
    pub types: PathBuf,
    /// `mixed`, and a file with the Group.
    pub mixed_with_group: PathBuf,
    /// `types`, and a file with the Group.
    pub types_with_group: PathBuf,
}

impl Folders {
    /// Makes the data below a folder unless it is there already.
    pub fn below(folder: &Path) -> io::Result<Self> {
        let below = |name: &str| folder.join(name);
        let folders = Self {
            mixed: below("mixed"),
            types: below("types"),
            mixed_with_group: below("mixed-group"),
            types_with_group: below("types-group"),
        };
        let done = below("synth.done");
        if !fs::exists(&done)? {
            for made in [&folders.mixed, &folders.types, &folders.mixed_with_group, &folders.types_with_group] {
                if fs::exists(made)? {
                    fs::remove_dir_all(made)?;
                }
                fs::create_dir_all(made)?;
            }
            folders.generate()?;
            fs::write(done, "")?;
        }
        Ok(folders)
    }

    fn generate(&self) -> io::Result<()> {
        let create = |path: PathBuf| Ok::<_, io::Error>(BufWriter::with_capacity(1 << 20, File::create(path)?));
        let mut mixed = create(self.mixed.join("synth.ndjson"))?;
        let mut by_type = Vec::new();
        for (name, _) in TYPES {
            by_type.push(create(self.types.join(format!("{name}.ndjson")))?);
        }
        let mut maker = Maker::new();
        let mut line = String::new();
        for _ in 0..RESOURCES {
            line.clear();
            let kind = maker.resource(&mut line);
            line.push('\n');
            mixed.write_all(line.as_bytes())?;
            by_type[kind].write_all(line.as_bytes())?;
        }
        mixed.flush()?;
        by_type.iter_mut().try_for_each(Write::flush)?;
        for (whole, with_group) in [(&self.mixed, &self.mixed_with_group), (&self.types, &self.types_with_group)] {
            for entry in fs::read_dir(whole)? {
                let entry = entry?;
                std::os::unix::fs::symlink(entry.path(), with_group.join(entry.file_name()))?;
            }
            fs::write(with_group.join("Group.ndjson"), maker.group())?;
        }
        Ok(())
    }
}

/// Random, but the same every time (xorshift64*).
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % limit
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    fn code(&mut self) -> u64 {
        10_000_000 + self.below(90_000_000)
    }
}

struct Maker {
    dice: Dice,
    made: u64,
    patients_made: u64,
}

impl Maker {
    const fn new() -> Self {
        Self { dice: Dice(0x0DDB_1A5E_5EED_2026), made: 0, patients_made: 0 }
    }

    /// Appends one resource and tells the place of its type in [`TYPES`].
    fn resource(&mut self, line: &mut String) -> usize {
        let mut rest = self.dice.below(1000);
        let mut kind = 0;
        for (index, (_, share)) in TYPES.iter().enumerate() {
            kind = index;
            if rest < *share {
                break;
            }
            rest -= share;
        }
        let name = TYPES[kind].0;
        self.made += 1;
        let id = match name {
            "Patient" => {
                self.patients_made += 1;
                id_of(self.patients_made)
            }
            _ => id_of(self.made + (1 << 40)),
        };
        let updated = self.instant();
        write!(
            line,
            r#"{{"resourceType":"{name}","id":"{id}","meta":{{"versionId":"{}","lastUpdated":"{updated}","profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-{}"]}},"#,
            1 + self.dice.below(9),
            name.to_ascii_lowercase()
        )
        .unwrap();
        match name {
            "Observation" => self.observation(line),
            "Condition" => self.condition(line),
            "Encounter" => self.encounter(line),
            "Claim" => self.claim(line),
            "ExplanationOfBenefit" => self.benefit(line),
            "DocumentReference" => self.document(line),
            _ => self.patient(line),
        }
        line.push('}');
        kind
    }

    fn instant(&mut self) -> String {
        let second = FIRST_SECOND + self.dice.below(SECONDS) as i64;
        let millisecond = self.dice.below(1000) as i32;
        Timestamp::new(second, millisecond * 1_000_000).map(|at| format!("{at:.3}")).unwrap()
    }

    /// A reference to one of about as many patients as there are in the whole.
    fn patient_reference(&mut self) -> String {
        let patients = RESOURCES as u64 * 16 / 1000;
        format!(r#"{{"reference":"Patient/{}"}}"#, id_of(1 + self.dice.below(patients)))
    }

    fn reference(&mut self, name: &str) -> String {
        format!(r#"{{"reference":"{name}/{}"}}"#, id_of(self.dice.below(1 << 20) + (1 << 40)))
    }

    fn concept(&mut self, system: &str) -> String {
        let (code, word) = (self.dice.code(), self.dice.word());
        format!(r#"{{"coding":[{{"system":"{system}","code":"{code}","display":"{word}"}}],"text":"{word}"}}"#)
    }

    fn observation(&mut self, line: &mut String) {
        let category = self.concept("http://terminology.hl7.org/CodeSystem/observation-category");
        let code = self.concept("http://loinc.org");
        let (subject, encounter, performer) =
            (self.patient_reference(), self.reference("Encounter"), self.reference("Practitioner"));
        let (at, whole, part) = (self.instant(), self.dice.below(300), self.dice.code());
        write!(
            line,
            r#""status":"final","category":[{category}],"code":{code},"subject":{subject},"encounter":{encounter},"effectiveDateTime":"{at}","issued":"{at}","performer":[{performer}],"valueQuantity":{{"value":{whole}.{part},"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}},"note":[{{"text":"{} / {}"}}]"#,
            self.dice.word(),
            self.dice.word()
        )
        .unwrap();
    }

    fn condition(&mut self, line: &mut String) {
        let clinical = self.concept("http://terminology.hl7.org/CodeSystem/condition-clinical");
        let verified = self.concept("http://terminology.hl7.org/CodeSystem/condition-ver-status");
        let code = self.concept("http://snomed.info/sct");
        let category = self.concept("http://terminology.hl7.org/CodeSystem/condition-category");
        let (subject, encounter) = (self.patient_reference(), self.reference("Encounter"));
        let (onset, recorded) = (self.instant(), self.instant());
        write!(
            line,
            r#""clinicalStatus":{clinical},"verificationStatus":{verified},"category":[{category}],"code":{code},"subject":{subject},"encounter":{encounter},"onsetDateTime":"{onset}","recordedDate":"{recorded}""#
        )
        .unwrap();
    }

    fn encounter(&mut self, line: &mut String) {
        let (subject, place) = (self.patient_reference(), self.reference("Location"));
        write!(
            line,
            r#""status":"finished","class":{{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"}},"type":[{}],"subject":{subject},"participant":["#,
            self.concept("http://snomed.info/sct")
        )
        .unwrap();
        for index in 0..2 {
            let (role, who) = (
                self.concept("http://terminology.hl7.org/CodeSystem/v3-ParticipationType"),
                self.reference("Practitioner"),
            );
            let (start, comma) = (self.instant(), comma(index));
            write!(line, r#"{comma}{{"type":[{role}],"period":{{"start":"{start}"}},"individual":{who}}}"#).unwrap();
        }
        write!(
            line,
            r#"],"period":{{"start":"{}","end":"{}"}},"reasonCode":[{}],"location":[{{"location":{place}}}],"serviceProvider":{}"#,
            self.instant(),
            self.instant(),
            self.concept("http://snomed.info/sct"),
            self.reference("Organization")
        )
        .unwrap();
    }

    fn claim(&mut self, line: &mut String) {
        let (patient, provider) = (self.patient_reference(), self.reference("Organization"));
        write!(
            line,
            r#""status":"active","type":{},"use":"claim","patient":{patient},"billablePeriod":{{"start":"{}","end":"{}"}},"created":"{}","provider":{provider},"priority":{},"item":["#,
            self.concept("http://terminology.hl7.org/CodeSystem/claim-type"),
            self.instant(),
            self.instant(),
            self.instant(),
            self.concept("http://terminology.hl7.org/CodeSystem/processpriority")
        )
        .unwrap();
        self.items(line, 5);
        write!(line, r#"],"total":{{"value":{}.{},"currency":"USD"}}"#, self.dice.below(5000), self.dice.below(100))
            .unwrap();
    }

    fn benefit(&mut self, line: &mut String) {
        let (patient, provider) = (self.patient_reference(), self.reference("Practitioner"));
        write!(
            line,
            r#""contained":[{{"resourceType":"Coverage","id":"coverage","status":"active","type":{{"text":"Medicare"}},"beneficiary":{patient},"payor":[{{"display":"Medicare"}}]}}],"status":"active","type":{},"use":"claim","patient":{patient},"created":"{}","insurer":{{"display":"Medicare"}},"provider":{provider},"outcome":"complete","item":["#,
            self.concept("http://terminology.hl7.org/CodeSystem/claim-type"),
            self.instant()
        )
        .unwrap();
        self.items(line, 22);
        write!(line, r#"],"payment":{{"amount":{{"value":{}.0,"currency":"USD"}}}}"#, self.dice.below(5000)).unwrap();
    }

    fn items(&mut self, line: &mut String, count: usize) {
        for index in 0..count {
            let (product, category) = (
                self.concept("http://snomed.info/sct"),
                self.concept("http://terminology.hl7.org/CodeSystem/benefitcategory"),
            );
            let (encounter, value) = (self.reference("Encounter"), self.dice.below(100_000));
            write!(
                line,
                r#"{}{{"sequence":{},"category":{category},"productOrService":{product},"net":{{"value":{value}.5,"currency":"USD"}},"encounter":[{encounter}]}}"#,
                comma(index),
                index + 1
            )
            .unwrap();
        }
    }

    fn document(&mut self, line: &mut String) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (subject, author) = (self.patient_reference(), self.reference("Practitioner"));
        write!(
            line,
            r#""status":"current","type":{},"subject":{subject},"date":"{}","author":[{author}],"content":[{{"attachment":{{"contentType":"text/plain; charset=utf-8","data":""#,
            self.concept("http://loinc.org"),
            self.instant()
        )
        .unwrap();
        for _ in 0..2540 {
            let mut bits = self.dice.below(1 << 32) | (self.dice.below(1 << 32) << 32);
            for _ in 0..8 {
                line.push(DIGITS[(bits & 63) as usize].into());
                bits >>= 6;
            }
        }
        write!(line, r#""}}}}],"context":{{"encounter":[{}]}}"#, self.reference("Encounter")).unwrap();
    }

    fn patient(&mut self, line: &mut String) {
        line.push_str(r#""text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">"#);
        for _ in 0..63 {
            write!(line, "<p>{}</p>\\n", self.dice.word()).unwrap();
        }
        line.push_str(r#"</div>"},"identifier":["#);
        for index in 0..4 {
            let (code, comma) = (self.dice.code(), comma(index));
            write!(line, r#"{comma}{{"system":"https://example.org/ids/{index}","value":"{code}","type":{{"text":"Identifier {index}"}}}}"#)
                .unwrap();
        }
        write!(
            line,
            r#"],"name":[{{"use":"official","family":"Müller{}","given":["Ann","Renée"]}}],"gender":"female","birthDate":"19{:02}-0{}-1{}","address":[{{"line":["{} Main Street"],"city":"Boston","state":"MA","country":"US"}}],"multipleBirthBoolean":false"#,
            self.dice.below(1000),
            self.dice.below(100),
            1 + self.dice.below(9),
            self.dice.below(10),
            self.dice.below(1000)
        )
        .unwrap();
    }

    /// One patient in a hundred.
    fn group(&self) -> String {
        let mut line = format!(
            r#"{{"resourceType":"Group","id":"{GROUP}","meta":{{"lastUpdated":"2023-01-01T00:00:00Z"}},"type":"person","actual":true,"member":["#
        );
        for (index, patient) in (1..=self.patients_made).step_by(100).enumerate() {
            write!(line, r#"{}{{"entity":{{"reference":"Patient/{}"}}}}"#, comma(index), id_of(patient)).unwrap();
        }
        line.push_str("]}\n");
        line
    }
}

const fn comma(index: usize) -> &'static str {
    if index == 0 { "" } else { "," }
}

/// A number as something that looks like a UUID.
fn id_of(number: u64) -> String {
    let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = mixed ^ (mixed >> 29);
    format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        mixed >> 32,
        (mixed >> 16) & 0xFFFF,
        mixed & 0xFFF,
        (number >> 3) & 0xFFF,
        number.wrapping_mul(0xD6E8_FEB8_6659_FD93) & 0xFFFF_FFFF_FFFF
    )
}
