"""The Python SDK, current generation: plain, streamed, counted, listed, refused."""

import anthropic

client = anthropic.Anthropic()
ask = {"model": "claude-opus-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hi."}]}

plain = client.messages.create(**ask)
assert plain.usage.input_tokens > 0 and plain.usage.output_tokens > 0

with client.messages.stream(**ask) as stream:
    text = "".join(stream.text_stream)
    streamed = stream.get_final_message()
assert text and streamed.stop_reason

counted = client.messages.count_tokens(model=ask["model"], messages=ask["messages"])
assert counted.input_tokens > 0

models = [model.id for model in client.models.list()]
assert models

try:
    anthropic.Anthropic(api_key="cr_" + "0" * 64).messages.create(**ask)
except anthropic.AuthenticationError as refused:
    assert refused.body["error"]["type"] == "authentication_error", refused.body
else:
    raise AssertionError("a stranger was served")
print(f"  plain, streamed, counted, {len(models)} models listed, a stranger refused")
