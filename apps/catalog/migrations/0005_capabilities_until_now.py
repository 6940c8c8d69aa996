from django.db import migrations

# What requests could ask of any model until now.
UNTIL_NOW = {
    "chat": [
        "tools",
        "parallel_tool_calls",
        "json_object",
        "json_schema",
        "logprobs",
        "stop",
        "seed",
        "penalties",
    ],
    "embeddings": ["token_input"],
}


def keep(apps, schema_editor):
    Model = apps.get_model("catalog", "Model")  # noqa: N806
    for kind, capabilities in UNTIL_NOW.items():
        Model.objects.filter(kind=kind, capabilities=[]).update(capabilities=capabilities)


class Migration(migrations.Migration):
    dependencies = [("catalog", "0004_capabilities")]

    operations = [migrations.RunPython(keep, migrations.RunPython.noop)]
