//! What is told of each type: bodies with places to fill.
//!
//! `@patient` is a reference to the patient whose record it is, in one of the many ways to write one; `@other` plainly
//! the next patient; `@stranger` someone who is no patient of the source's, however much it looks like one. In each row
//! the compartment paths that the row is there for hold `@patient`; where the standard wants something at another
//! path of the compartment, it holds `@stranger` or no patient at all. Every path of the R4 Patient compartment has a row.

/// Types of the Patient compartment but `Patient` and `Group`: type, body.
pub(crate) const COMPARTMENT: &[(&str, &str)] = &[
    (
        "Account",
        r#""status":"active","name":"Account of @name","subject":[@patient],"servicePeriod":{"start":"@date"}"#,
    ),
    ("Account", r#""status":"active","name":"Family account","subject":[@organization,@patient,@other]"#),
    (
        "AdverseEvent",
        r#""actuality":"actual","event":{"text":"Fall in the corridor"},"subject":@patient,"date":"@time""#,
    ),
    (
        "AllergyIntolerance",
        r#""clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},"code":{"coding":[{"system":"http://snomed.info/sct","code":"91935009","display":"Allergy to peanut"}]},"patient":@patient"#,
    ),
    ("AllergyIntolerance", r#""code":{"text":"Penicillin"},"patient":@stranger,"recorder":@patient"#),
    (
        "AllergyIntolerance",
        r#""code":{"text":"House dust mite"},"patient":@stranger,"recorder":@practitioner,"asserter":@patient"#,
    ),
    (
        "Appointment",
        r#""status":"booked","start":"@time","minutesDuration":20,"participant":[{"actor":@practitioner,"status":"accepted"},{"actor":@patient,"status":"accepted"}]"#,
    ),
    (
        "AppointmentResponse",
        r#""appointment":{"reference":"Appointment/appointment-1"},"participantStatus":"accepted","actor":@patient"#,
    ),
    (
        "AuditEvent",
        r#""type":{"code":"110112","display":"Query"},"recorded":"@time","agent":[{"who":@patient,"requestor":true}],"source":{"observer":@device}"#,
    ),
    (
        "AuditEvent",
        r#""type":{"code":"110110","display":"Patient Record"},"recorded":"@time","agent":[{"who":@practitioner,"requestor":true}],"source":{"observer":@device},"entity":[{"what":@patient},{"what":@encounter}]"#,
    ),
    ("Basic", r#""code":{"text":"Referral note"},"subject":@patient,"created":"@date""#),
    ("Basic", r#""code":{"text":"Diary entry"},"author":@patient,"created":"@date""#),
    ("BodyStructure", r#""morphology":{"text":"Splenic laceration"},"location":{"text":"Spleen"},"patient":@patient"#),
    (
        "CarePlan",
        r#""status":"active","intent":"plan","title":"Weight loss","subject":@patient,"period":{"start":"@date"}"#,
    ),
    (
        "CarePlan",
        r#""status":"active","intent":"plan","subject":@stranger,"activity":[{"detail":{"status":"scheduled","performer":[@practitioner,@patient]}}]"#,
    ),
    (
        "CareTeam",
        r#""status":"active","name":"Diabetes team","subject":@patient,"participant":[{"member":@practitioner}]"#,
    ),
    (
        "CareTeam",
        r#""status":"active","name":"Self-help group","participant":[{"member":@organization},{"member":@patient}]"#,
    ),
    (
        "ChargeItem",
        r#""status":"billable","code":{"text":"Consultation"},"subject":@patient,"quantity":{"value":@number}"#,
    ),
    (
        "Claim",
        r#""status":"active","type":{"text":"institutional"},"use":"claim","patient":@patient,"created":"@date","provider":@organization,"total":{"value":@number.50,"currency":"EUR"}"#,
    ),
    (
        "Claim",
        r#""status":"active","type":{"text":"oral"},"use":"claim","patient":@stranger,"created":"@date","payee":{"type":{"text":"subscriber"},"party":@patient}"#,
    ),
    ("ClaimResponse", r#""status":"active","use":"claim","patient":@patient,"created":"@date","outcome":"complete""#),
    (
        "ClinicalImpression",
        r#""status":"completed","subject":@patient,"summary":"Likely a sprain; \"rest, ice\" advised.""#,
    ),
    (
        "Communication",
        r#""status":"completed","subject":@patient,"sent":"@time","payload":[{"contentString":"Your results are in."}]"#,
    ),
    ("Communication", r#""status":"completed","sender":@patient,"recipient":[@practitioner]"#),
    ("Communication", r#""status":"completed","sender":@practitioner,"recipient":[@organization,@patient,@other]"#),
    (
        "CommunicationRequest",
        r#""status":"active","subject":@patient,"payload":[{"contentString":"Please call the ward."}]"#,
    ),
    ("CommunicationRequest", r#""status":"active","sender":@patient"#),
    ("CommunicationRequest", r#""status":"active","recipient":[@patient],"sender":@organization"#),
    ("CommunicationRequest", r#""status":"active","requester":@patient"#),
    (
        "Composition",
        r#""status":"final","type":{"text":"Discharge summary"},"subject":@patient,"date":"@time","author":[@practitioner],"title":"Discharge summary""#,
    ),
    (
        "Composition",
        r#""status":"final","type":{"text":"Advance directive"},"date":"@time","author":[@patient],"title":"My wishes""#,
    ),
    (
        "Composition",
        r#""status":"final","type":{"text":"Consent note"},"date":"@time","author":[@practitioner],"attester":[{"mode":"personal","party":@patient}],"title":"Consent note""#,
    ),
    (
        "Condition",
        r#""clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},"code":{"coding":[{"system":"http://snomed.info/sct","code":"44054006","display":"Diabetes mellitus type 2"}]},"subject":@patient,"onsetDateTime":"@date""#,
    ),
    ("Condition", r#""code":{"text":"Seasonal rhinitis"},"subject":@stranger,"asserter":@patient"#),
    (
        "Consent",
        r#""status":"active","scope":{"text":"Research"},"category":[{"text":"Research"}],"patient":@patient,"dateTime":"@time""#,
    ),
    ("Coverage", r#""status":"active","policyHolder":@patient,"beneficiary":@stranger,"payor":[@organization]"#),
    ("Coverage", r#""status":"active","subscriber":@patient,"beneficiary":@stranger,"payor":[@organization]"#),
    ("Coverage", r#""status":"active","subscriberId":"S-@number","beneficiary":@patient,"payor":[@organization]"#),
    ("Coverage", r#""status":"active","beneficiary":@stranger,"payor":[@patient]"#),
    (
        "CoverageEligibilityRequest",
        r#""status":"active","purpose":["benefits"],"patient":@patient,"created":"@date","insurer":@organization"#,
    ),
    (
        "CoverageEligibilityResponse",
        r#""status":"active","purpose":["benefits"],"patient":@patient,"created":"@date","outcome":"complete","insurer":@organization"#,
    ),
    ("DetectedIssue", r#""status":"final","severity":"high","patient":@patient,"detail":"Drug interaction""#),
    (
        "DeviceRequest",
        r#""intent":"order","codeCodeableConcept":{"text":"Crutches"},"subject":@patient,"authoredOn":"@time""#,
    ),
    (
        "DeviceRequest",
        r#""intent":"order","codeCodeableConcept":{"text":"Bed rail"},"subject":@location,"performer":@patient"#,
    ),
    ("DeviceUseStatement", r#""status":"active","subject":@patient,"device":@device"#),
    (
        "DiagnosticReport",
        r#""status":"final","code":{"coding":[{"system":"http://loinc.org","code":"58410-2","display":"CBC panel"}]},"subject":@patient,"effectiveDateTime":"@time","conclusion":"Within limits\nrepeat in a year""#,
    ),
    (
        "DocumentManifest",
        r#""status":"current","subject":@patient,"content":[{"reference":"DocumentReference/documentreference-1"}]"#,
    ),
    (
        "DocumentManifest",
        r#""status":"current","author":[@patient],"content":[{"reference":"DocumentReference/documentreference-1"}]"#,
    ),
    (
        "DocumentManifest",
        r#""status":"current","recipient":[@organization,@patient],"content":[{"reference":"DocumentReference/documentreference-1"}]"#,
    ),
    (
        "DocumentReference",
        r#""status":"current","subject":@patient,"content":[{"attachment":{"contentType":"text/plain","data":"TWlsZCBmZXZlciwgbm8gcmFzaC4="}}]"#,
    ),
    (
        "DocumentReference",
        r#""status":"current","author":[@patient],"content":[{"attachment":{"contentType":"application/pdf","url":"Binary/letter"}}]"#,
    ),
    (
        "Encounter",
        r#""status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"},"subject":@patient,"participant":[{"individual":@practitioner}],"period":{"start":"@time"},"serviceProvider":@organization"#,
    ),
    ("EnrollmentRequest", r#""status":"active","created":"@date","insurer":@organization,"candidate":@patient"#),
    (
        "EpisodeOfCare",
        r#""status":"active","patient":@patient,"managingOrganization":@organization,"period":{"start":"@date"}"#,
    ),
    (
        "ExplanationOfBenefit",
        r#""status":"active","use":"claim","patient":@patient,"created":"@date","outcome":"complete","total":[{"category":{"text":"submitted"},"amount":{"value":@number.00,"currency":"EUR"}}]"#,
    ),
    (
        "ExplanationOfBenefit",
        r#""status":"active","use":"claim","patient":@stranger,"created":"@date","outcome":"complete","payee":{"party":@patient}"#,
    ),
    (
        "FamilyMemberHistory",
        r#""status":"completed","patient":@patient,"relationship":{"text":"Mother"},"condition":[{"code":{"text":"Stroke"}}]"#,
    ),
    ("Flag", r#""status":"active","code":{"text":"Fall risk"},"subject":@patient"#),
    (
        "Goal",
        r#""lifecycleStatus":"active","description":{"text":"Walk 30 minutes a day"},"subject":@patient,"startDate":"@date""#,
    ),
    (
        "ImagingStudy",
        r#""status":"available","subject":@patient,"started":"@time","series":[{"uid":"1.2.840.113619.2.@number","modality":{"code":"DX"}}]"#,
    ),
    (
        "Immunization",
        r#""status":"completed","vaccineCode":{"coding":[{"system":"http://hl7.org/fhir/sid/cvx","code":"140","display":"Influenza"}]},"patient":@patient,"occurrenceDateTime":"@date","primarySource":true"#,
    ),
    (
        "ImmunizationEvaluation",
        r#""status":"completed","patient":@patient,"targetDisease":{"text":"Measles"},"immunizationEvent":{"reference":"Immunization/immunization-1"},"doseStatus":{"text":"valid"}"#,
    ),
    (
        "ImmunizationRecommendation",
        r#""patient":@patient,"date":"@time","recommendation":[{"targetDisease":{"text":"Tetanus"},"forecastStatus":{"text":"due"}}]"#,
    ),
    ("Invoice", r#""status":"issued","subject":@patient,"totalGross":{"value":@number.95,"currency":"EUR"}"#),
    ("Invoice", r#""status":"issued","recipient":@patient,"totalGross":{"value":1e2,"currency":"EUR"}"#),
    (
        "List",
        r#""status":"current","mode":"working","title":"Problems","subject":@patient,"entry":[{"item":{"reference":"Condition/condition-1"}}]"#,
    ),
    ("List", r#""status":"current","mode":"working","title":"Questions for the doctor","source":@patient"#),
    (
        "MeasureReport",
        r#""status":"complete","type":"individual","measure":"http://example.org/Measure/hba1c","subject":@patient,"period":{"start":"2023-01-01","end":"2023-12-31"}"#,
    ),
    ("Media", r#""status":"completed","subject":@patient,"content":{"contentType":"image/png","data":"iVBORw0KGgo="}"#),
    (
        "MedicationAdministration",
        r#""status":"completed","medicationReference":@medication,"subject":@patient,"effectiveDateTime":"@time""#,
    ),
    (
        "MedicationAdministration",
        r#""status":"completed","medicationReference":@medication,"subject":@stranger,"performer":[{"actor":@patient}]"#,
    ),
    (
        "MedicationDispense",
        r#""status":"completed","medicationReference":@medication,"subject":@patient,"quantity":{"value":@number}"#,
    ),
    (
        "MedicationDispense",
        r#""status":"completed","medicationReference":@medication,"receiver":[@practitioner,@patient]"#,
    ),
    (
        "MedicationRequest",
        r#""status":"active","intent":"order","medicationReference":@medication,"subject":@patient,"authoredOn":"@time","dosageInstruction":[{"text":"1 tablet at 08:00"}]"#,
    ),
    (
        "MedicationStatement",
        r#""status":"active","medicationCodeableConcept":{"text":"Ibuprofen 400 mg"},"subject":@patient,"effectiveDateTime":"@date""#,
    ),
    ("MolecularSequence", r#""type":"dna","coordinateSystem":0,"patient":@patient,"observedSeq":"ACGTACGTAACC""#),
    (
        "NutritionOrder",
        r#""status":"active","intent":"order","patient":@patient,"dateTime":"@time","oralDiet":{"type":[{"text":"Low salt"}]}"#,
    ),
    (
        "Observation",
        r#""status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}]},"subject":@patient,"focus":[@other],"effectiveDateTime":"@time","valueQuantity":{"value":@number,"unit":"/min"}"#,
    ),
    (
        "Observation",
        r#""status":"final","code":{"coding":[{"system":"http://loinc.org","code":"29463-7","display":"Body weight"}]},"subject":@patient,"encounter":@encounter,"effectiveDateTime":"@time","valueQuantity":{"value":@number.50,"unit":"kg"},"note":[{"text":"bei Fieber gemessen – 38,5 °C 🌡"}]"#,
    ),
    (
        "Observation",
        r#""status":"final","code":{"text":"Mood today"},"subject":@location,"performer":[@practitioner,@patient],"valueString":"good""#,
    ),
    (
        "Observation",
        r#""status":"final","code":{"text":"Room temperature"},"subject":@location,"focus":[@other],"valueQuantity":{"value":21.0,"unit":"Cel"}"#,
    ),
    ("Person", r#""name":[{"text":"@name"}],"link":[{"target":@practitioner},{"target":@patient}]"#),
    (
        "Procedure",
        r#""status":"completed","code":{"coding":[{"system":"http://snomed.info/sct","code":"80146002","display":"Appendectomy"}]},"subject":@patient,"performedDateTime":"@time""#,
    ),
    (
        "Procedure",
        r#""status":"completed","code":{"text":"Wound care at home"},"subject":@stranger,"performer":[{"actor":@practitioner},{"actor":@patient}]"#,
    ),
    ("Provenance", r#""target":[@patient,@encounter],"recorded":"@time","agent":[{"who":@practitioner}]"#),
    (
        "QuestionnaireResponse",
        r#""status":"completed","subject":@patient,"authored":"@time","item":[{"linkId":"1","answer":[{"valueBoolean":true}]}]"#,
    ),
    (
        "QuestionnaireResponse",
        r#""status":"completed","author":@patient,"item":[{"linkId":"1","answer":[{"valueDecimal":0.10}]}]"#,
    ),
    ("RelatedPerson", r#""patient":@patient,"relationship":[{"text":"Sister"}],"name":[{"text":"@name"}]"#),
    ("RequestGroup", r#""status":"active","intent":"plan","subject":@patient"#),
    (
        "RequestGroup",
        r#""status":"active","intent":"plan","action":[{"title":"Bring the diary","participant":[@practitioner,@patient]}]"#,
    ),
    ("ResearchSubject", r#""status":"candidate","study":{"reference":"ResearchStudy/sleep"},"individual":@patient"#),
    (
        "RiskAssessment",
        r#""status":"final","subject":@patient,"prediction":[{"outcome":{"text":"Heart attack"},"probabilityDecimal":0.0@number}]"#,
    ),
    ("Schedule", r#""active":true,"actor":[@location,@patient]"#),
    (
        "ServiceRequest",
        r#""status":"active","intent":"order","code":{"text":"Physiotherapy"},"subject":@patient,"requester":@practitioner"#,
    ),
    (
        "ServiceRequest",
        r#""status":"active","intent":"order","code":{"text":"Check the room"},"subject":@location,"performer":[@patient]"#,
    ),
    ("Specimen", r#""status":"available","type":{"text":"Venous blood"},"subject":@patient,"receivedTime":"@time""#),
    (
        "SupplyDelivery",
        r#""status":"completed","patient":@patient,"suppliedItem":{"itemCodeableConcept":{"text":"Insulin pens"}}"#,
    ),
    (
        "SupplyRequest",
        r#""status":"active","itemCodeableConcept":{"text":"Dressings"},"quantity":{"value":@number},"deliverTo":@patient"#,
    ),
    (
        "VisionPrescription",
        r#""status":"active","created":"@time","patient":@patient,"dateWritten":"@time","prescriber":@practitioner,"lensSpecification":[{"product":{"text":"lens"},"eye":"right","sphere":-2.00}]"#,
    ),
];

/// Types outside the Patient compartment: type, id, body. What looks like a link to a patient is none.
pub(crate) const OUTSIDE: &[(&str, &str, &str)] = &[
    ("Practitioner", "iris", r#""active":true,"name":[{"family":"Okafor","given":["Iris"],"prefix":["Dr."]}]"#),
    ("Practitioner", "juan", r#""active":true,"name":[{"family":"Peña","given":["Juan"]}]"#),
    ("Organization", "harbour", r#""active":true,"name":"Harbour Hospital""#),
    (
        "Organization",
        "payer",
        r#""active":true,"name":"General Health Fund","partOf":{"reference":"Organization/harbour"}"#,
    ),
    (
        "Location",
        "ward-3",
        r#""status":"active","name":"Ward 3","managingOrganization":{"reference":"Organization/harbour"}"#,
    ),
    (
        "Medication",
        "metformin",
        r#""code":{"coding":[{"system":"http://www.nlm.nih.gov/research/umls/rxnorm","code":"860975"}]},"ingredient":[{"itemCodeableConcept":{"text":"Metformin"}}]"#,
    ),
    (
        "Device",
        "monitor",
        r#""status":"active","deviceName":[{"name":"Bedside monitor","type":"user-friendly-name"}],"patient":{"reference":"Patient/ada"}"#,
    ),
    ("Device", "gateway", r#""status":"active","deviceName":[{"name":"Integration gateway","type":"other"}]"#),
    (
        "Binary",
        "letter",
        r#""contentType":"application/pdf","securityContext":{"reference":"Patient/ada"},"data":"JVBERi0xLjQKJcOkw7zDtsOfCg==""#,
    ),
    ("Binary", "note", r#""contentType":"text/plain","data":"""#),
    (
        "Task",
        "call-back",
        r#""status":"requested","intent":"order","for":{"reference":"Patient/bo"},"owner":{"reference":"Patient/ada"},"description":"Call back about the results""#,
    ),
];
