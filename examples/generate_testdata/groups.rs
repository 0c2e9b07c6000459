//! Groups of every kind that the cohort rules speak of.

/// Id, what stands before `member`, members: an entity, and what stands beside it.
pub(crate) type Group = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PERSON: &str = r#""type":"person","actual":true"#;

/// All groups of `testdata/small`. Patients are named by their reference, other entities likewise.
pub(crate) const GROUPS: &[Group] = &[
    (
        "everyone",
        r#""active":true,"type":"person","actual":true,"name":"All patients""#,
        &[
            ("Patient/ada", ""),
            ("Patient/bo", ""),
            ("Patient/cyd", ""),
            ("Patient/dee", ""),
            ("Patient/eli", ""),
            ("Patient/fay", ""),
            ("Patient/gus", ""),
            ("Patient/hal", ""),
        ],
    ),
    ("only-ada", PERSON, &[("Patient/ada", "")]),
    ("pair", PERSON, &[("Patient/bo", ""), ("Patient/cyd/_history/3", "")]),
    ("nested", PERSON, &[("Group/only-ada", ""), ("Patient/hal", ""), ("Group/pair", "")]),
    ("cycle-a", PERSON, &[("Patient/dee", ""), ("Group/cycle-b", "")]),
    ("cycle-b", PERSON, &[("Group/cycle-a", ""), ("Patient/eli", "")]),
    (
        "inactive-members",
        PERSON,
        &[
            ("Patient/ada", r#","inactive":true"#),
            ("Patient/bo", r#","inactive":false"#),
            ("Group/pair", r#","inactive":true"#),
        ],
    ),
    (
        "ended",
        PERSON,
        &[
            ("Patient/ada", r#","period":{"start":"2018","end":"2019"}"#),
            ("Patient/bo", r#","period":{"end":"2019-06"}"#),
            ("Patient/cyd", r#","period":{"end":"2019-06-30"}"#),
            ("Patient/dee", r#","period":{"end":"2019-06-30T23:30:00-02:00"}"#),
            ("Patient/eli", r#","period":{"start":"2018-02-03","end":"2999-12-31"}"#),
        ],
    ),
    (
        "not-yet",
        PERSON,
        &[
            ("Patient/ada", r#","period":{"start":"2999"}"#),
            ("Patient/bo", r#","period":{"start":"2999-02"}"#),
            ("Patient/cyd", r#","period":{"start":"2999-02-28","end":"2999-03-01"}"#),
            ("Patient/dee", r#","period":{"start":"2999-02-28T00:00:00.5Z"}"#),
            ("Patient/fay", r#","period":{"start":"2018-07"}"#),
        ],
    ),
    ("empty", PERSON, &[]),
    ("all-gone", PERSON, &[("Patient/ada", r#","inactive":true"#), ("Patient/bo", r#","period":{"end":"2001"}"#)]),
    ("definition", r#""type":"person","actual":false,"code":{"text":"Adults with diabetes"}"#, &[]),
    ("retired", r#""active":false,"type":"person","actual":true"#, &[("Patient/gus", "")]),
    ("dangling", PERSON, &[("Patient/ada", ""), ("Group/nowhere", "")]),
    (
        "mixed-entities",
        PERSON,
        &[("Practitioner/iris", ""), ("Patient/fay", ""), ("Device/monitor", ""), ("Medication/metformin", "")],
    ),
    (
        "twice",
        PERSON,
        &[
            ("Patient/ada", ""),
            ("Patient/ada", ""),
            ("https://fhir.example.org/r4/Patient/ada", ""),
            ("Patient/bo", ""),
        ],
    ),
    (
        "strangers",
        PERSON,
        &[
            ("https://other.example.com/fhir/Patient/ada", ""),
            ("urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0", ""),
            ("Patient/not-here", ""),
        ],
    ),
    ("staff", r#""type":"practitioner","actual":true"#, &[("Practitioner/iris", ""), ("Practitioner/juan", "")]),
];
