"""Mandarin sentences from a small grammar, in simplified characters."""

import re

import numpy as np

_DIGITS = "零一二三四五六七八九"

_RULES = {
    "sentence": "[who][when][go]|[who]想[eat][food]|[who]喜欢[food],也喜欢[food]|今天[weather]|"
    "[when][weather]|现在[clock]|[who][clock][do]|今天是[date]|我的电话是[phone]|[who]有[count]|"
    "这个[thing]多少钱|这个[thing][money]|[who]的[family]是[job]|[who]的[family]在[place]工作|"
    "请[command]|请[command],谢谢|你好,我叫[name]|你叫什么名字|[place]在哪里|[who]在[place][do]|"
    "[who][when]去[place][do]|[thing]在[place]|[who]没有[thing]|你有没有[thing]|"
    "[who]今年[number]岁|[family]和[family]都[feel]|[who]很[feel]|[who]不[feel]|你[feel]吗|"
    "[who]每天[clock][do]|[place]离[place]很[far]|[color]的[thing]很[nice]|"
    "[number]加[number]等于[number]|[number]|[date]|[clock]|[phone]|[money]|[count]|[weekday]|"
    "[city]的[season][weather]|[who]买了[count]|[who]觉得[food]很[taste]|"
    "因为[weather],所以[who]不去[place]|[who]会说[language]吗|[who]正在学习[language]|"
    "我们一起去[place]吧|明天见|谢谢你|没关系|对不起|再见",
    "who": "我|你|他|她|我们|他们|[name]|我的[family]|老师|学生|医生|我的朋友",
    "name": "[surname][given]|小[surname]|[surname]老师|[surname]先生",
    "surname": "王|李|张|刘|陈|杨|黄|赵|周|吴",
    "given": "明|红|华|丽|小明|大伟|文|国强|美|海",
    "family": "爸爸|妈妈|哥哥|姐姐|弟弟|妹妹|爷爷|奶奶|儿子|女儿|丈夫|妻子|孩子|朋友",
    "job": "老师|医生|司机|工人|学生|经理|护士|作家|农民|警察",
    "when": "今天|明天|昨天|后天|上午|下午|晚上|[weekday]|下个月|明年|现在|早上",
    "weekday": "星期一|星期二|星期三|星期四|星期五|星期六|星期天",
    "season": "春天|夏天|秋天|冬天",
    "go": "去[place]|回家|来[place]|到[city]去|坐[vehicle]去[place]",
    "vehicle": "火车|汽车|飞机|地铁|船|出租车|公共汽车",
    "place": "学校|医院|商店|公园|饭店|机场|火车站|图书馆|银行|北京|上海|家里|房间里|桌子上|公司|"
    "[city]",
    "city": "北京|上海|南京|广州|西安|天津|香港|台北|成都|杭州",
    "eat": "吃|买|要",
    "food": "米饭|面条|苹果|鱼|牛肉|鸡蛋|水果|菜|面包|西瓜|羊肉|饺子|茶|咖啡|牛奶|水|豆腐|汤",
    "taste": "好吃|甜|贵|便宜|新鲜|不错",
    "weather": "下雨|下雪|很冷|很热|天气很好|天气不好|有风|是晴天|是阴天|[number]度",
    "do": "看书|看电视|听音乐|工作|学习|睡觉|吃饭|喝茶|跑步|打电话|写字|唱歌|跳舞|做饭|买东西|"
    "游泳|等车|开会",
    "thing": "书|手机|电脑|桌子|椅子|衣服|杯子|车|钱|门|灯|电视|报纸|照片|票|药|笔|包|鞋|帽子",
    "count": "[few]本书|[few]个苹果|[few]件衣服|[few]只猫|[few]条狗|[few]张票|[few]杯水|[few]个人|"
    "[few]辆车",
    "few": "一|两|三|四|五|六|七|八|九|十|二十|三十",
    "feel": "高兴|累|忙|饿|冷|热|生气|难过|健康|聪明|漂亮|认真|快乐",
    "far": "远|近",
    "color": "红色|白色|黑色|蓝色|绿色|黄色",
    "nice": "好看|便宜|贵|大|小|新|旧|长|短|漂亮",
    "language": "中文|英文|日语|法语",
    "command": "打开[thing]|关上门|开灯|关灯|坐|进来|等一下|再说一次|给[name]打电话|放音乐|"
    "说慢一点|告诉我[when]的天气|提醒我[clock][do]|把[thing]给我|调大声音|调小声音",
}
_REFERENCE = re.compile(r"\[(\w+)\]")


def spell(number: int) -> str:
    """Write a number in characters.

    Args:
        number: 0 up to 10,000, exclusive.

    Returns:
        As it is said: 105 is 一百零五, 12 is 十二.

    Raises:
        ValueError: if the number is out of range.
    """
    if not 0 <= number < 10000:
        raise ValueError(f"{number=} is not within 0..10000")
    if number < 10:
        return _DIGITS[number]
    said = ""
    for place, unit in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = number // place % 10
        if digit:
            said += _DIGITS[digit] + unit
        elif said and not said.endswith("零") and number % place:
            said += "零"
    return said[1:] if said.startswith("一十") else said


def _number(rng: np.random.Generator) -> str:
    return spell(int(np.exp(rng.uniform(0.0, np.log(10000.0)))))


def _date(rng: np.random.Generator) -> str:
    day = f"{spell(int(rng.integers(1, 13)))}月{spell(int(rng.integers(1, 32)))}号"
    if rng.random() < 0.4:
        return "".join(_DIGITS[int(digit)] for digit in str(rng.integers(1950, 2031))) + "年" + day
    return day


def _clock(rng: np.random.Generator) -> str:
    hour = int(rng.integers(1, 13))
    said = ("两" if hour == 2 else spell(hour)) + "点"
    form = int(rng.integers(3))
    if form == 0:
        return said
    return said + ("半" if form == 1 else spell(int(rng.integers(11, 60))) + "分")


_MADE = {
    "number": _number,
    "date": _date,
    "clock": _clock,
    "phone": lambda rng: "".join(_DIGITS[digit] for digit in rng.integers(0, 10, 8)),
    "money": lambda rng: _number(rng) + ("块钱", "元")[int(rng.integers(2))],
}


def _expand(name: str, rng: np.random.Generator) -> str:
    if name in _MADE:
        return _MADE[name](rng)
    options = _RULES[name].split("|")
    chosen = options[int(rng.integers(len(options)))]
    return _REFERENCE.sub(lambda match: _expand(match[1], rng), chosen)


def generate(rng: np.random.Generator) -> str:
    """Generate a sentence.

    Args:
        rng: source of randomness.

    Returns:
        Characters, and commas where one pauses.
    """
    return _expand("sentence", rng)
