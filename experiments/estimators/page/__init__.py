"""The report of the estimators experiment: a module per section."""

from experiments.estimators.page._page import build_page as build_page
