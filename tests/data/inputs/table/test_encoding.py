"""Tables in other encodings than UTF-8: read where their bytes leave little doubt, and refused otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from epochal import load
from epochal.data.inputs.table.encoding import encoding_of
from epochal.errors import DataError

# Sentences of several languages, and the encoding that programs of Windows write them in.
WESTERN = {
    "de": "Straße;Größe;Käufer;Müller;Preis in €;Öl;über;Ärger;weiß",
    "fr": "Numéro;Été;français;garçon;où;forêt;Noël;cœur;l’œuvre;à côté",
    "es": "Año;Niño;¿Cuánto?;jamón;pingüino;corazón;1ª;2º",
    "pt": "Não;informações;São Paulo;três;avó;índice",
    "it": "Città;perché;è;più;così;virtù",
    "sv": "Ålder;kön;Malmö;färg;blåbär",
    "da": "Køn;Århus;æble;blå;rødgrød;år",
    "units": "Temperatur in °C;Fläche in m²;5 µm;±1",
}
CHINESE = ["姓名,年龄,城市,学历", "张三,北京市朝阳区,本科,是", "性别男女,婚姻状况已婚未婚,收入高低"]
OTHERS = {
    "cp1251": "Пол;возраст;город Москва;да;нет;образование",
    "koi8-r": "пол;возраст;город москва;да;нет;образование",
    "cp1250": "Příjmení;věk;město Plzeň;ženatý;třída",
    "iso8859-2": "Płeć;wiek;miasto Łódź;żonaty;późno",
    "cp1254": "Yaş;şehir;İstanbul;doğum;kırmızı;ağaç",
    "cp1253": "Φύλο;ηλικία;πόλη;Αθήνα",
    "cp949": "성별;나이;도시;서울특별시;대학교;기혼",
    "shift-jis": "性別;年齢;都市;東京都;はい;いいえ;大学",
    "euc-jp": "性別;年齢;都市;東京都;はい;いいえ;大学",
    "big5": "姓名;年齡;城市;臺北市;學歷;是否已婚",
    "cp850": "Größe;Käufer;Müller",
    "mac-roman": "Größe;Käufer;Müller;été",
    "cp874": "เพศ;อายุ;เมือง;กรุงเทพ",
}


def written(folder: Path, content: bytes) -> Path:
    path = folder / "t.csv"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("text", WESTERN.values(), ids=WESTERN)
def test_western_languages(tmp_path: Path, text: str) -> None:
    assert encoding_of(written(tmp_path, text.encode("cp1252"))).name == "cp1252"
    assert encoding_of(written(tmp_path, text.encode())).name == "utf-8-sig"


@pytest.mark.parametrize("encoding", ["gbk", "gb18030"])
def test_chinese(tmp_path: Path, encoding: str) -> None:
    assert encoding_of(written(tmp_path, "\n".join(CHINESE).encode(encoding))).name == "gb18030"
    for text in CHINESE:
        assert encoding_of(written(tmp_path, text.encode(encoding))).name == "gb18030"


@pytest.mark.parametrize("encoding", OTHERS)
def test_other_languages_are_not_taken_for_these(tmp_path: Path, encoding: str) -> None:
    assert encoding_of(written(tmp_path, OTHERS[encoding].encode(encoding))).name == "utf-8-sig"


def test_damaged_utf_8_is_not_taken_for_another(tmp_path: Path) -> None:
    text = ";".join(WESTERN.values()).encode()
    assert encoding_of(written(tmp_path, text + b"\xe9\n")).name == "utf-8-sig"
    # Wherever a file is cut for reading, letters of several bytes are whole.
    assert encoding_of(written(tmp_path, b"x" + "é".encode() * (1 << 20))).name == "utf-8-sig"
    assert encoding_of(written(tmp_path, b"x,y\n" * (1 << 19) + b"caf\xe9,1\n")).name == "cp1252"


def test_an_excel_export_is_read_and_the_guess_is_reported(tmp_path: Path) -> None:
    rows = [f"{row},5;{'Köln' if row % 2 else 'Nürnberg'};{'schön' if row % 3 else 'hässlich'}" for row in range(60)]
    path = written(tmp_path, "\r\n".join(["Größe;Stadt;Urteil", *rows, ""]).encode("cp1252"))
    data = load(path, target="Urteil")
    assert data.outputs == ("hässlich", "schön")
    (note,) = (note for note in data.notes if "UTF-8" in note)
    assert note == f"{path}: not in UTF-8: read as Western European (CP1252), such as 'Größe'; if that is wrong, save it as UTF-8"
    # The same table in UTF-8 is the same for a model.
    assert load(written(tmp_path, path.read_bytes().decode("cp1252").encode()), like=data.spec).train.targets.equal(data.train.targets)
    rows = [f"{row % 7},{'北京' if row % 2 else '上海'},{'已婚' if row % 3 else '未婚'}" for row in range(60)]
    path = written(tmp_path, "\n".join(["年龄,城市,婚姻", *rows, ""]).encode("gbk"))
    data = load(path, target="婚姻")
    assert data.outputs == ("已婚", "未婚")
    assert f"{path}: not in UTF-8: read as Chinese (GB18030), such as '年龄'; if that is wrong, save it as UTF-8" in data.notes
    path = written(tmp_path, "a;b\nда;1\nнет;2\n".encode("cp1251"))
    with pytest.raises(DataError, match=r"t\.csv, line 2: it is not text in UTF-8\.\nSave the file as UTF-8 \(iconv"):
        load(path, target="b")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "t.xlsx",
            b"PK\x03\x04...",
            r"t\.xlsx is a spreadsheet, which is not read\.\nSave the sheet as CSV UTF-8; or in Python, pass pandas",
        ),
        ("t.csv", b"PK\x03\x04...", r"t\.csv is not text: its content is an Excel workbook, or a zip archive\.\nSave the sheet as CSV"),
        ("t.csv", b"PAR1", r"t\.csv is not text: its content is Parquet\.\nName it \.parquet"),
        ("t.json", b"[]", r"t\.json is JSON as a whole, which is not read\.\nWrite an object on each line"),
        ("t.data", b"1,2\n", r"t\.data is not named like a table, and has data\.target = y\.\nIf it is one, rename it to t\.csv"),
    ],
)
def test_other_formats_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / name, target="y")
    (tmp_path / "good.csv").write_text("x,y\n" + "1,a\n2,b\n" * 20)
    if name != "t.data":
        with pytest.raises(DataError, match=message.partition("is")[0]):
            load(tmp_path / "good.csv", target="y", test_data=tmp_path / name)
