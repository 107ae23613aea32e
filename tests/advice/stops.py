"""All stops, and the texts that none is about."""

from tests.advice import stops_data, stops_rest, stops_run

STOPS = [*stops_run.STOPS, *stops_data.STOPS, *stops_rest.STOPS]

OPEN: dict[str, str] = {
    "The defense puts something else": "no defense that comes along does; tests/training",
    "no command would take those that a": "what to read stands in it; the page is there",
    "april needs a first block": "from Python only: a run refuses it before, by what it demands",
    "imprint needs the blocks of a stock ViT": "no victim that comes along has other blocks",
    "this threat model grants {}. Add": "no attack that comes along needs to know anything",
    "see `privbench show {}`": "a cell of a list; what it names is listed there",
    "Short for --dataset imagenet": "help of an option",
    "privbench train --model": "the command of a card; tests/training runs it",
    "privbench run --attack gradinv --model": "a part of `Attack them`",
    "overrides draw, so it must say": "for who writes a defense",
    "overrides combine, so it must be": "for who writes a defense",
    "Not enough memory for a single case": "memory has to run out: tests/running",
    "in more than one version, and a table": "a metric has to change: tests/running",
    "of a time when no answers were stored": "a record has to be old: tests/running",
    "gives NaN or infinity for this answer": "for who writes a metric",
    "are not those that the record is about": "data have to change: tests/running",
    "A process that augments pictures was killed": "a process has to be killed",
    "has no {} pictures. Name another": "no data set that comes along is empty without saying so",
    ", or a weaker --defense,": "a part of `The training diverged`",
    "The column of {} is NaN or infinite": "weights have to be broken: tests/utility",
    "answers picture {} of {} with NaN": "weights have to be broken: tests/utility",
    "ends in no linear layer": "no small model of timm's does",
    "is a distilled model (dist_token": "a file of 90 MB",
    "is like itself. Change": "a preset that comes along has to be broken: tests/fuzz",
    "is not YAML. Write lines such as `summary": "the same",
    "holds no mapping; begin with `summary": "the same",
    "Leave its architecture as it is": "the hub has to answer",
    "timm publishes no weights for": "no small model of timm's is without",
    "could not be fetched from": "the hub has to answer",
    "adds no position table at its input": "an attack refuses it before, by what it needs",
    "{} has not {}. Choose another victim": "an attack refuses it before, by what it needs",
}
"""Texts that no test follows, by a part of each, and why."""
