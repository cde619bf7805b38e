"""Every suite, by name.

To add one, write its module and add its line here; its fields are its options.
"""

from collections.abc import Mapping

from mergegrid.registry import Registry
from mergegrid.suites.suite import Suite

SUITES: Mapping[str, type[Suite]] = Registry[type[Suite]](
    {
        "glyphs": "mergegrid.suites.glyphs:Glyphs",
        "domainnet": "mergegrid.suites.domainnet:DomainNet",
        "vision8": "mergegrid.suites.vision:Vision8",
        "vision14": "mergegrid.suites.vision:Vision14",
        "vision20": "mergegrid.suites.vision:Vision20",
        "lexicon": "mergegrid.suites.lexicon:Lexicon",
        "cross_lingual": "mergegrid.suites.cross_lingual:CrossLingual",
        "nlp7": "mergegrid.suites.p3:Nlp7",
        "qa8": "mergegrid.suites.p3:Qa8",
        "p3_11": "mergegrid.suites.p3:P3Eleven",
        "own": "mergegrid.suites.own:Own",
    }
)
