"""What a chat asks a model that does not write: the text, the picture or the sound of the user's last message."""

from __future__ import annotations

from dataclasses import dataclass

from api.errors import InvalidBody
from api.schemas.chat import ContentPart, CreateChatCompletion, Message
from models.datasets.media.encodings import NOUNS

_PART_TYPES = {"image": "image_url", "audio": "input_audio"}
_EXAMPLES = {
    "image": '{"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,…"}}',
    "audio": '{"type": "input_audio", "input_audio": {"data": "<base64>", "format": "wav"}}',
}


@dataclass(frozen=True, slots=True)
class AskedInput:
    """An input as `predict` takes it in JSON, and the parameter that it came in: `messages[0].content[1].image_url`."""

    value: str
    param: str


def asked(body: CreateChatCompletion, modality: str) -> AskedInput:
    """Return what the user's last message asks a model of a modality; raises InvalidBody, whose `param` says where."""
    places = [
        index
        for index, message in enumerate(body.messages)
        if message.role == "user" and (message.text or message.other_parts)
    ]
    if not places:
        raise InvalidBody(reason="messages holds no message of the user's to classify.", param="messages")
    message, place = body.messages[places[-1]], f"messages[{places[-1]}]"
    return _text(message) if modality == "text" else _media(message, modality, place)


def _text(message: Message) -> AskedInput:
    if kinds := message.other_parts:
        reason = f"The user's last message has a part of type '{kinds[0][:40]}': only text is read by this model."
        raise InvalidBody(reason=reason, param="messages")
    return AskedInput(message.text, "messages")


def _media(message: Message, medium: str, place: str) -> AskedInput:
    """Return the only picture or sound of a message. A text beside it is read as little as a system message is."""
    wanted = _PART_TYPES[medium]
    parts = [(f"{place}.content[{at}]", part) for at, part in enumerate(message.parts) if part.type != "text"]
    for param, part in parts:
        if part.type != wanted:
            reason = (
                f"{param} is of type '{part.type[:40]}', and this model reads {NOUNS[medium]}: {_EXAMPLES[medium]}."
            )
            raise InvalidBody(reason=reason, param=param)
    if not parts:
        reason = f"The user's last message holds none of {wanted}, and this model reads {NOUNS[medium]}."
        raise InvalidBody(reason=f"{reason} Send a part {_EXAMPLES[medium]}.", param=place)
    if len(parts) > 1:
        reason = f"The user's last message holds {len(parts)} parts of type {wanted}, and a chat asks about one."
        mend = "Send one request for each, or all of them to POST /v1/models/{model}/predict."
        raise InvalidBody(reason=f"{reason} {mend}", param=parts[1][0])
    ((param, part),) = parts
    return AskedInput(_encoded(part, param), f"{param}.{wanted}")


def _encoded(part: ContentPart, param: str) -> str:
    """Return the base64 or the data URL of a part."""
    if part.type == "image_url" and part.image_url is not None:
        return part.image_url.url
    if part.type == "input_audio" and part.input_audio is not None:
        return part.input_audio.data
    raise InvalidBody(reason=f"{param}.{part.type} is required in a part of this type.", param=f"{param}.{part.type}")
