"""What the command prints about a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from epochal.cli.output import print_rows, say, say_json
from epochal.language import columns, translated
from epochal.shown import counted
from epochal.terminal import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from epochal.evaluation.importance import Importance
    from epochal.evaluation.several import Several
    from epochal.run.complete import Run


def report(done: Run, *, as_json: bool) -> None:
    """Print the result, where it is saved, and what to type next."""
    from epochal.run.folder import DATA, REPORT, own_code_option, read_json
    from epochal.run.prepare import check_command

    assert done.folder is not None
    place = read_json(done.folder / DATA)
    source = place["source"] if "://" in place["source"] else _short(Path(place["source"]))
    judged = done.out_of_fold if done.test is None else done.test
    say(f"\n{judged}" if judged is not None else "\nThere was no test data.")
    if judged is not None:
        from epochal.evaluation.advice import advice

        for line in advice(judged, done.data.spec, done.recipe, check_command(source, done.recipe, place["data_dir"])):
            say(line)
    if done.folds is not None:
        _say_several(done.folds)
        say(done.folds.final)
    if done.repeats is not None:
        _say_several(done.repeats)
    if done.assessment is not None and done.assessment.slices is not None:
        for line in done.assessment.slices.lines():
            say(line)
    from epochal.evaluation.decision import about_uneven

    decision = None if done.assessment is None else done.assessment.decision
    for line in about_uneven(done.bundle.spec.task, done.recipe, decision):
        say(line)
    if done.label_errors is not None and done.label_errors.likely:
        errors, table = done.label_errors, done.folder / "labels.csv"
        if errors.kind == "quantities":
            say(f"{errors.likely:,} of {errors.count:,} training values look{'s' * (errors.likely == 1)} wrong: {table}")
        else:
            say(f"{errors.likely:,} of {errors.count:,} training labels look{'s' * (errors.likely == 1)} wrong: {table}")
    if done.label_errors is not None and done.label_errors.check is not None:
        for line in done.label_errors.check.lines():
            say(line)
    if done.importance is not None:
        _say_importance(done.importance)
    if done.curve is not None:
        say(done.curve.title)
        print_rows(done.curve.heading, done.curve.table())
        say(done.curve.outlook())
    say(f"  run       {done.folder}")
    if (done.folder / REPORT).exists():
        say(f"  report    {done.folder / REPORT}")
    if done.repeats is not None:
        say(f"  repeats   {done.folder / 'repeats'}")
    pictures = sorted((done.folder / "figures").glob("*.png"))
    for number, picture in enumerate(pictures):
        label = "" if number else translated("pictures")
        say(f"  {label}{' ' * (8 - columns(label))}  {picture}")
    own_code = own_code_option(done.recipe.model.name)
    say(f"  next      {command('epochal', 'predict', done.folder, *_sample(done, source), *own_code)}")
    say(f"            {command('epochal', 'evaluate', done.folder, *own_code)}")
    if as_json:
        say_json(done.result)


def _sample(done: Run, source: str | Path) -> Sequence[str | Path]:
    """Return what to predict as an example: a file of the run's own data; where it has none, words as those of another."""
    rule, place = done.data.spec.input, Path(source)
    if rule.kind == "table":
        return source if place.is_file() else "table.csv", "--csv", "predictions.csv"
    file = (place if place.is_dir() else place.parent) / (done.data.test or done.data.train).where(0)
    return (file,) if file.is_file() else rule.sample


def _short(path: Path) -> Path:
    """Return a path as it is seen from here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _say_several(found: Several) -> None:
    say(found.title)
    print_rows(found.heading, [(translated(name), *cells) for name, *cells in found.table()])
    for line in found.meaning:
        say(line)


def _say_importance(found: Importance) -> None:
    say(found.title)
    print_rows(found.heading, rows := found.table())
    if more := len(found.columns) - len(rows):
        say(f"  and {counted(more, 'more column')} in result.json")
    if warning := found.warning():
        say(f"note: {warning}")
