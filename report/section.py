"""A section of a report: what it says, and the charts that belong in it."""

from dataclasses import dataclass, field, replace

from report.charts import Spec


@dataclass(frozen=True, kw_only=True)
class Section:
    key: str  # its id in the page
    title: str
    html: str
    charts: dict[str, Spec] = field(default_factory=dict)  # {id of an element in html: what to draw in it}

    def of_run(self, number: int, name: str) -> "Section":
        """The same about one of several runs: under ids of its own, and a title that names the run."""
        prefix, html = f"run{number}-", self.html
        for key in self.charts:
            html = html.replace(f'id="{key}"', f'id="{prefix}{key}"')
        charts = {f"{prefix}{key}": spec for key, spec in self.charts.items()}
        return replace(self, key=prefix + self.key, title=f"{name}: {self.title}", html=html, charts=charts)
