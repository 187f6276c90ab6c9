"""Lists a worker's models with the OpenAI and Anthropic clients, and looks one up that is not there. Argument: the
port."""
import sys

import anthropic
import openai

base = f"http://127.0.0.1:{sys.argv[1]}"

client = openai.OpenAI(base_url=base + "/v1", api_key="none", max_retries=0)
(model,) = client.models.list()
assert (model.id, model.object, model.owned_by) == ("tiny", "model", "worker-orcd"), model
assert model.model_dump()["max_model_len"] == 2048, model
assert client.models.retrieve("tiny") == model
try:
    client.models.retrieve("other")
    sys.exit("another model was found")
except openai.NotFoundError as error:
    assert error.code == "model_not_found" and error.param == "model", error

client = anthropic.Anthropic(base_url=base, api_key="none", max_retries=0)
(model,) = client.models.list()
assert (model.id, model.type, model.display_name) == ("tiny", "model", "tiny"), model
assert client.models.retrieve("tiny").created_at == model.created_at
try:
    client.models.retrieve("other")
    sys.exit("another model was found")
except anthropic.NotFoundError as error:
    assert error.body["error"]["type"] == "not_found_error", error.body
