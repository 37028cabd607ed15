from prompts.facts import shipped_facts


def test_each_fact_breaks_off_before_its_answer_and_has_another_rival() -> None:
    facts = shipped_facts()
    assert len(facts) >= 8
    assert len({fact.text for fact in facts}) == len(facts)
    for fact in facts:
        assert fact.text == fact.text.strip()
        assert fact.answer not in fact.text
        assert fact.answer != fact.rival
