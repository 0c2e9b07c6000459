//! Verifies an export: one line for each object, and a summary.

use fhir_export::ErrorKind;
use fhir_export::job::{ObjectCheck, SeenAgain, VerifyReport};

use super::Exit;
use super::figures::{counted, grouped, volume};
use super::output::print;
use super::plan::VerifyPlan;
use super::screen::Screen;
use super::summary::shown;

/// Runs the plan to its end.
pub(crate) async fn verify(plan: VerifyPlan, screen: &Screen) -> Exit {
    let mut printed = Ok(());
    let destination = plan.destination.destination.as_ref();
    let mut each = |object: &ObjectCheck| {
        if printed.is_ok() {
            printed = print(&line(object));
        }
    };
    let verified = fhir_export::job::verify(destination, &plan.manifest, plan.options, &mut each).await;
    let exit = match &verified {
        Ok(report) => {
            printed = printed.and_then(|()| print(&text(report)));
            if report.is_ok() { Exit::Success } else { Exit::Failure }
        }
        Err(error) => {
            screen.error(&format!("{error:#}"));
            if error.kind() == ErrorKind::InvalidRequest { Exit::Usage } else { Exit::Failure }
        }
    };
    if let Err(error) = printed {
        screen.error(&format!("stdout can't be written to: {error}"));
        return Exit::Failure;
    }
    exit
}

/// What was found of one object; each problem on a line of its own.
fn line(object: &ObjectCheck) -> String {
    let name = in_job_folder(&object.key);
    if object.is_ok() {
        return format!("OK     {name}  {}, {}\n", counted(object.lines, "line"), volume(object.bytes));
    }
    object.problems.iter().map(|problem| format!("WRONG  {name}  {problem}\n")).collect()
}

/// The key without the job folder.
fn in_job_folder(key: &str) -> &str {
    key.split_once('/').map_or(key, |(_, name)| name)
}

/// What there is besides the objects, and the result.
fn text(report: &VerifyReport) -> String {
    let mut lines: Vec<String> =
        report.books.iter().map(|fault| format!("WRONG  the manifest's books: {fault}")).collect();
    lines.extend(report.unlisted.iter().map(|url| format!("WRONG  {}  isn't in the manifest", shown(url))));
    let again = report.duplicates.as_ref().map_or(&[][..], |duplicates| &duplicates.first);
    lines.extend(again.iter().map(|SeenAgain { resource, key, line, .. }| {
        format!("AGAIN  {}  line {line}: {resource}", in_job_folder(key))
    }));
    lines.push(result(report));
    lines.join("\n") + "\n"
}

fn result(report: &VerifyReport) -> String {
    let status = &report.manifest.extension.job_status;
    let objects = counted(report.objects.len() as u64, "object");
    if report.is_ok() {
        let resources = report.objects.iter().map(|object| object.lines).sum();
        let bytes = report.objects.iter().map(|object| object.bytes).sum();
        let (lines, bytes) = (counted(resources, "line"), volume(bytes));
        return format!("OK: {objects} with {lines}, {bytes}, as the manifest says; the job ended {status}");
    }
    let wrong = report.objects.iter().filter(|object| !object.is_ok()).count() as u64;
    let mut findings = vec![format!("{} of {objects} differ", grouped(wrong))];
    let again = report.duplicates.as_ref().map_or(0, |duplicates| duplicates.resources);
    for (number, what) in [
        (report.books.len() as u64, "faults in the books"),
        (report.unlisted.len() as u64, "objects too many"),
        (again, "resources occur again"),
    ] {
        if number > 0 {
            findings.push(format!("{} {what}", grouped(number)));
        }
    }
    format!("WRONG: {}; the job ended {status}", findings.join(", "))
}
