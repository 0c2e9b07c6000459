//! Synthetic NDJSON that looks like a hospital's: shapes, sizes and texts of FHIR R4, the same for the same seed.

use std::fmt::Write;

use bytes::Bytes;
use fhir_export::fhir::ResourceType;

/// The types of a hospital's data and how many there are of each among 387 resources.
///
/// By bytes: Observation and ExplanationOfBenefit two fifths and a fifth, as in Synthea's output.
pub(crate) const HOSPITAL: [(&str, u64); 7] = [
    ("Observation", 210),
    ("Condition", 45),
    ("Encounter", 44),
    ("Claim", 39),
    ("ExplanationOfBenefit", 36),
    ("Patient", 7),
    ("DocumentReference", 6),
];

/// How many patients there are; every resource is about one of them.
const PATIENTS: u64 = 10_000;

const WORDS: [&str; 16] = [
    "Carbon Dioxide",
    "Viral sinusitis (disorder)",
    "Encounter for symptom",
    "Follow-up encounter",
    "Medical care",
    "Body Mass Index",
    "Blood Pressure",
    "Tobacco smoking status NHIS",
    "Hémoglobine A1c",
    "Chronic sinusitis (disorder)",
    "Estimated Glomerular Filtration Rate",
    "Submitted Amount",
    "Acute bronchitis (disorder)",
    "Driver's License",
    "Inpatient Hospital",
    "Primary Care Practitioner",
];

const SYSTEMS: [&str; 5] = [
    "http://loinc.org",
    "http://snomed.info/sct",
    "http://unitsofmeasure.org",
    "http://terminology.hl7.org/CodeSystem/observation-category",
    "https://bluebutton.cms.gov/resources/variables/line_cms_type_srvc_cd",
];

/// Makes resources, one after the other.
#[derive(Debug)]
pub(crate) struct Hospital {
    random: u64,
    text: String,
}

impl Default for Hospital {
    fn default() -> Self {
        Self { random: 0x5EED, text: String::new() }
    }
}

impl Hospital {
    /// About `bytes` of lines of one type.
    pub(crate) fn one_type(name: &str, bytes: usize) -> Bytes {
        Self::lines(bytes, |_| name)
    }

    /// About `bytes` of lines of [`HOSPITAL`]'s types, interleaved line by line.
    pub(crate) fn seven_types(bytes: usize) -> Bytes {
        let total = HOSPITAL.iter().map(|(_, weight)| weight).sum();
        Self::lines(bytes, |hospital| {
            let mut at = hospital.below(total);
            let found = HOSPITAL.iter().find(|(_, weight)| {
                let hit = at < *weight;
                at = at.saturating_sub(*weight);
                hit
            });
            found.unwrap().0
        })
    }

    /// About `bytes` of lines of 150 types, each line of another type than the one before.
    pub(crate) fn many_types(bytes: usize) -> Bytes {
        let mut names: Vec<String> = ResourceType::all_r4().map(|name| name.as_str().to_owned()).collect();
        let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ".chars();
        names.extend(letters.map(|letter| format!("Local{letter}")).take(150_usize.saturating_sub(names.len())));
        let mut hospital = Self::default();
        for name in names.iter().cycle() {
            if hospital.text.len() >= bytes {
                break;
            }
            hospital.resource(name);
        }
        hospital.text.into()
    }

    /// A Group of the first `members` patients, as one line.
    pub(crate) fn group(id: &str, members: u64) -> Bytes {
        let mut line = format!(r#"{{"resourceType":"Group","id":"{id}","type":"person","actual":true,"member":["#);
        for patient in 0..members.min(PATIENTS) {
            let comma = if patient == 0 { "" } else { "," };
            write!(line, r#"{comma}{{"entity":{{"reference":"Patient/{}"}}}}"#, uuid(patient)).unwrap();
        }
        line.push_str("]}\n");
        line.into()
    }

    fn lines<'n>(bytes: usize, mut next: impl FnMut(&mut Self) -> &'n str) -> Bytes {
        let mut hospital = Self::default();
        while hospital.text.len() < bytes {
            let name = next(&mut hospital);
            hospital.resource(name);
        }
        hospital.text.into()
    }

    /// Appends one resource as a line.
    fn resource(&mut self, name: &str) {
        let id = if name == "Patient" { uuid(self.below(PATIENTS)) } else { uuid(PATIENTS + self.next() / 2) };
        self.put(&format!(r#"{{"resourceType":"{name}","id":"{id}","meta":{{"lastUpdated":""#));
        self.instant();
        self.put(r#"","tag":[{"system":"https://example.org/tags","code":"synthetic"}]},"status":"final","#);
        match name {
            "Patient" => self.patient(),
            "Condition" => self.about_patient(1, 0),
            "Encounter" => self.about_patient(2, 2),
            "Claim" => self.claim(7),
            "ExplanationOfBenefit" => self.claim(28),
            "DocumentReference" => self.document(),
            _ => self.about_patient(1, 1),
        }
        self.put("}\n");
    }

    fn about_patient(&mut self, concepts: u64, components: u64) {
        self.put(r#""category":["#);
        self.concept();
        self.put(r#"],"code":"#);
        self.concept();
        self.put(r#","subject":"#);
        self.patient_reference();
        self.put(r#","encounter":"#);
        self.reference("Encounter");
        self.put(r#","effectiveDateTime":""#);
        self.instant();
        self.put(r#"","issued":""#);
        self.instant();
        self.put(r#"","note":["#);
        self.list(concepts, Self::concept);
        self.put(r#"],"component":["#);
        self.list(components, |hospital| {
            hospital.put(r#"{"code":"#);
            hospital.concept();
            let value = hospital.below(1 << 40) as f64 / 1e9;
            hospital.put(&format!(
                r#","valueQuantity":{{"value":{value},"unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"}}}}"#
            ));
        });
        self.put("]");
    }

    fn claim(&mut self, items: u64) {
        self.put(r#""contained":[{"resourceType":"Coverage","id":"coverage","beneficiary":"#);
        self.patient_reference();
        self.put(r#"}],"use":"claim","patient":"#);
        self.patient_reference();
        self.put(r#","provider":"#);
        self.reference("Practitioner");
        self.put(r#","item":["#);
        self.list(items, |hospital| {
            hospital.put(r#"{"sequence":1,"diagnosisSequence":[1,2],"productOrService":"#);
            hospital.concept();
            hospital.put(r#","servicedPeriod":{"start":""#);
            hospital.instant();
            hospital.put(r#"","end":""#);
            hospital.instant();
            hospital.put(r#""},"encounter":["#);
            hospital.reference("Encounter");
            hospital.put("]}");
        });
        self.put(r#"],"total":{"value":125.00,"currency":"USD"}"#);
    }

    fn patient(&mut self) {
        self.put(r#""text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">"#);
        self.list(12, |hospital| {
            let word = hospital.word();
            hospital.put(&format!(r"<p>{word}\n</p>"));
        });
        self.put(r#"</div>"},"identifier":["#);
        self.list(8, Self::concept);
        self.put(r#"],"name":[{"use":"official","family":"Véliz","given":["Caridad"],"prefix":["Mrs."]}],"gender":"female","birthDate":"1965-09-12","address":[{"line":["141 Schinner Gate Unit 24"],"city":"Worcester","postalCode":"01545","country":"US"}],"multipleBirthBoolean":false,"communication":[{"language":"#);
        self.concept();
        self.put("}]");
    }

    fn document(&mut self) {
        self.put(r#""subject":"#);
        self.patient_reference();
        self.put(r#","content":[{"attachment":{"contentType":"text/plain","data":""#);
        for _ in 0..2500 {
            let digits = self.next();
            for shift in 0..8 {
                const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
                self.text.push(char::from(BASE64[(digits >> (shift * 6)) as usize & 63]));
            }
        }
        self.put(r#""}}]"#);
    }

    fn concept(&mut self) {
        let system = SYSTEMS[self.below(SYSTEMS.len() as u64) as usize];
        let (code, word) = (self.below(1 << 30), self.word());
        self.put(&format!(
            r#"{{"coding":[{{"system":"{system}","code":"{code}","display":"{word}"}}],"text":"{word}"}}"#
        ));
    }

    fn patient_reference(&mut self) {
        let patient = uuid(self.below(PATIENTS));
        self.put(&format!(r#"{{"reference":"Patient/{patient}"}}"#));
    }

    fn reference(&mut self, name: &str) {
        let id = uuid(self.next());
        self.put(&format!(r#"{{"reference":"{name}/{id}"}}"#));
    }

    /// Between 2020 and 2024; half lie before 2022.
    fn instant(&mut self) {
        let (year, month, day) = (2020 + self.below(4), 1 + self.below(12), 1 + self.below(28));
        let (hour, minute, second, milli) = (self.below(24), self.below(60), self.below(60), self.below(1000));
        write!(self.text, "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z").unwrap();
    }

    fn list(&mut self, count: u64, one: impl Fn(&mut Self)) {
        for index in 0..count {
            if index > 0 && self.text.ends_with('}') {
                self.put(",");
            }
            one(self);
        }
    }

    fn word(&mut self) -> &'static str {
        WORDS[self.below(WORDS.len() as u64) as usize]
    }

    fn put(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// The next random number: SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.random)
    }
}

/// An id as servers give them, the same for the same number.
pub(crate) fn uuid(number: u64) -> String {
    let (high, low) = (mixed(number), mixed(!number));
    let (a, b, c) = (high >> 32, high >> 16 & 0xFFFF, high & 0xFFF);
    format!("{a:08x}-{b:04x}-4{c:03x}-{:04x}-{:012x}", low >> 48 & 0x3FFF | 0x8000, low & 0xFFFF_FFFF_FFFF)
}

fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
