"""The playground: one prompt for one model or two, their runs side by side. All but the files is in the address."""

from __future__ import annotations

import json
import pprint
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.http import QueryDict
from django.urls import reverse

from apps.accounts.models import Organization, User
from apps.catalog import offers
from apps.catalog.models import Model
from apps.catalog.offers import Offer
from apps.core.ids import parse
from apps.dispatch.forms import EXAMPLE, PlaygroundForm
from apps.jobs.models import Job
from apps.jobs.pages import job as pages
from apps.jobs.pages.job import JobPage
from apps.keys.models import APIKey
from apps.wire import images
from cango_portal import database

WORDS = ("system", "prompt", "text", "max_tokens", "temperature", "top_p")  # of the address
LONGEST_ADDRESS = 4_000  # more than that in all, and the texts stay out of it: the run has them
KINDS = (Model.Kind.CHAT, Model.Kind.EMBEDDINGS, Model.Kind.OCR)


@dataclass(frozen=True, slots=True)
class Code:
    """The same work from a program. `id` names the block on the page."""

    id: str
    title: str
    text: str


class Playground:
    """`given` is what the address or the form says; `urls` where programs send work to."""

    def __init__(
        self, organization: Organization, user: User, given: QueryDict, *, api_url: str, jobs_url: str
    ) -> None:
        self.organization = organization
        self.user = user
        self.given = given
        self.api_url = api_url
        self.jobs_url = jobs_url
        self.offers = [each for each in database.run(offers.offers()) if each.kind in KINDS]
        self.named = {each.name: each for each in self.offers}
        self.runs = self.found(given.getlist("run")[:2])
        self.form: PlaygroundForm | None = self.fresh() if self.offer else None

    def found(self, names: list[str]) -> list[JobPage]:
        """Those of them that are this organization's."""
        ids = [job_id for job_id in (parse("job", name) for name in names) if job_id]
        own = set(Job.objects.of(self.organization).filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
        return [pages.load(job_id) for job_id in ids if job_id in own]

    @cached_property
    def offer(self) -> Offer | None:
        """The one that is named, or was run; otherwise the first that chats."""
        first = next((each for each in self.offers if each.kind == Model.Kind.CHAT), next(iter(self.offers), None))
        run = self.runs[0].job.model.name if self.runs else ""
        return self.named.get(self.given.get("model", "")) or self.named.get(run) or first

    @cached_property
    def other(self) -> Offer | None:
        """The model beside it: chats are compared."""
        other = self.named.get(self.given.get("compare", ""))
        return other if other in self.others else None

    @property
    def others(self) -> list[Offer]:
        if self.offer is None or self.offer.kind != Model.Kind.CHAT:
            return []
        return [each for each in self.offers if each.kind == Model.Kind.CHAT and each != self.offer]

    @property
    def unknown(self) -> list[str]:
        asked = [self.given.get(name, "") for name in ("model", "compare")]
        return [name for name in asked if name and name not in self.named]

    def fresh(self) -> PlaygroundForm:
        """To be filled in: with what the address says, or else with what was run."""
        assert self.offer is not None
        said = {name: self.given[name] for name in WORDS if self.given.get(name)}
        return PlaygroundForm(self.offer, self.other, initial={**self.asked, **said})

    @property
    def asked(self) -> dict[str, Any]:
        """The fields of the first run, where it was a chat of one prompt or one text."""
        if not self.runs or self.runs[0].job.kind not in ("chat", "embeddings"):
            return {}
        request = self.runs[0].request
        texts = dict(self.runs[0].messages)
        asked = {"prompt": texts.get("user"), "system": texts.get("system"), "text": request.get("input")}
        asked |= {name: request.get(name) for name in ("max_tokens", "temperature", "top_p")}
        return {name: value for name, value in asked.items() if isinstance(value, str | int | float)}

    @property
    def key(self) -> APIKey | None:
        """The reader's newest, or else the organization's."""
        keys = APIKey.objects.active().filter(organization=self.organization)
        return keys.filter(created_by=self.user).first() or keys.first()

    @property
    def address(self) -> str:
        """Where this can be opened again, with its runs."""
        query = QueryDict(mutable=True)
        if self.offer:
            query["model"] = self.offer.name
        if self.other:
            query["compare"] = self.other.name
        for name in WORDS:
            if said := self.given.get(name):
                query[name] = str(said)
        if len(query.urlencode()) > LONGEST_ADDRESS:
            for name in ("system", "prompt", "text"):
                query.pop(name, None)
        query.setlist("run", [page.job.public_id for page in self.runs])
        return f"{reverse('dispatch:playground')}?{query.urlencode(safe='/')}"

    @property
    def codes(self) -> list[Code]:
        if self.offer is None:
            return []
        if self.offer.kind == Model.Kind.OCR:
            return of_file(self.offer.name, self.jobs_url)
        form = self.form
        if form is None or not form.is_bound:
            assert self.offer is not None
            form = PlaygroundForm(self.offer, self.other, data=self.written)
        form.is_valid()
        return of_text(self.offer, form.body(EXAMPLE), self.api_url)

    @property
    def written(self) -> Mapping[str, Any]:
        """What the form holds as it is shown."""
        form = self.form
        return {} if form is None else {name: form.get_initial_for_field(f, name) for name, f in form.fields.items()}


def of_text(offer: Offer, body: dict[str, Any], api_url: str) -> list[Code]:
    chat = offer.kind == Model.Kind.CHAT
    sent = {"model": offer.name, **body, **({"stream": True} if chat else {})}
    given = images.shortened(json.dumps(sent, ensure_ascii=False, indent=2))
    curl = (
        f"curl {api_url}/{'chat/completions' if chat else 'embeddings'} \\\n"
        '  -H "Authorization: Bearer $CANGO_API_KEY" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d {shlex.quote(given)}"
    )
    arguments = "".join(
        f"    {name}={images.shortened(pprint.pformat(value, width=100, sort_dicts=False))},\n"
        for name, value in sent.items()
    )
    python = (
        "import os\nfrom openai import OpenAI\n\n"
        f'client = OpenAI(base_url="{api_url}", api_key=os.environ["CANGO_API_KEY"])\n'
        f"answer = client.{'chat.completions' if chat else 'embeddings'}.create(\n{arguments})\n"
    )
    script = (
        "import OpenAI from 'openai'\n\n"
        f"const client = new OpenAI({{ baseURL: '{api_url}', apiKey: process.env.CANGO_API_KEY }})\n"
        f"const answer = await client.{'chat.completions' if chat else 'embeddings'}.create({given})\n"
    )
    if chat:
        python += (
            'for chunk in answer:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="")'
        )
        script += "for await (const chunk of answer) process.stdout.write(chunk.choices[0]?.delta?.content ?? '')"
    else:
        python += "print(len(answer.data[0].embedding))"
        script += "console.log(answer.data[0].embedding.length)"
    return blocks(curl, python, script)


def of_file(model: str, jobs_url: str) -> list[Code]:
    curl = (
        f"curl {jobs_url} \\\n"
        '  -H "Authorization: Bearer $CANGO_API_KEY" \\\n'
        f"  -F model={shlex.quote(model)} \\\n  -F file=@invoice.png"
    )
    python = (
        'import os, requests\n\nwith open("invoice.png", "rb") as file:\n    job = requests.post(\n'
        f'        "{jobs_url}",\n'
        '        headers={"Authorization": f"Bearer {os.environ[\'CANGO_API_KEY\']}"},\n'
        f'        data={{"model": "{model}"}},\n        files={{"file": file}},\n    ).json()\n'
        'print(job["id"], job["state"])'
    )
    script = (
        "import { openAsBlob } from 'node:fs'\n\nconst body = new FormData()\n"
        f"body.set('model', '{model}')\nbody.set('file', await openAsBlob('invoice.png'), 'invoice.png')\n"
        "const headers = { authorization: `Bearer ${process.env.CANGO_API_KEY}` }\n"
        f"const answer = await fetch('{jobs_url}', {{ method: 'POST', headers, body }})\n"
        "const job = await answer.json()\nconsole.log(job.id, job.state)"
    )
    return blocks(curl, python, script)


def blocks(curl: str, python: str, script: str) -> list[Code]:
    return [
        Code("code-curl", "curl", curl),
        Code("code-python", "Python", python),
        Code("code-javascript", "JavaScript", script),
    ]
